package script

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// step is one entry of the list, in memory that parent and child share.
type step struct {
	nr    uintptr
	a     [6]uintptr
	els   int32 // the step after an expected errno; next: the one that follows
	then  int32 // the step after success
	out   int16 // the register that takes the result, -1: none
	regs  uint8 // bit i: a[i] is a register
	flags uint8
	nmay  uint8
	may   [maxMay]uint8
	_     [3]uint8
	// where name and object are in the arena, 0: not written down; for a process that has only the file
	name, object uint32
}

const (
	flagElse = 1 << iota // els was set: an Expect that does not hold goes on
	flagExec
	flagHandOver // a fork whose parent's side ends here
	flagAside    // a fork whose parent's side goes on quietly
)

const next = -1

// What is not a system call. The numbers are out of the kernel's range.
const (
	opJump = 1<<20 + iota
	opExpect
	opFail
	opSet
	opCompute
	opLoad
	opStore
	opQuiet
	opCopy
)

// status is the head of the arena: what the child tells without a system call.
type status struct {
	step       int32 // being played
	failed     int32 // 1: failedStep failed with errno
	failedStep int32
	errno      int32
	successor  int32 // pid, 0: none
	n          int32 // steps that may be played; the parent moves it on while the child waits at a meeting point
}

// The arena is reserved at its full size at once: a child that does not share our memory has its own page tables, so
// nothing that were mapped later could be seen by it. Pages cost something only when they are written.
const (
	arenaSize = 16 << 20
	headSize  = 4 << 10
	maxSteps  = 16 << 10
	prologue  = 64 // steps kept free at the front for what only Start knows
	dataStart = headSize + maxSteps*int(unsafe.Sizeof(step{}))
)

const wordSize = int(unsafe.Sizeof(uintptr(0)))

type arena struct {
	mem  []byte
	off  int
	side []byte // of a child that shares our memory: its stage, and its stack; nil: there is none
}

// sideSize is room for a stage and a stack: what runs on it is run, whose depth the linker checks (a chain of
// functions that don't grow their stack has 800 bytes at most).
const sideSize = 8 << 10

// open maps fd, which grows to the arena's size without taking room, or with -1 memory that has no file.
func (a *arena) open(fd int) error {
	flags := unix.MAP_SHARED | unix.MAP_NORESERVE
	if fd < 0 {
		flags |= unix.MAP_ANON
	} else if err := unix.Ftruncate(fd, arenaSize); err != nil {
		return err
	}
	m, err := unix.Mmap(fd, 0, arenaSize, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return err
	}
	a.mem, a.off = m, dataStart
	return nil
}

func (a *arena) close() error {
	if a.mem == nil {
		return nil
	}
	m, side := a.mem, a.side
	a.mem, a.side = nil, nil
	err := unix.Munmap(m)
	if side != nil {
		err = errors.Join(err, unix.Munmap(side))
	}
	return err
}

func (a *arena) base() uintptr { return uintptr(unsafe.Pointer(&a.mem[0])) }

func (a *arena) step(i int) *step {
	return (*step)(unsafe.Pointer(&a.mem[headSize+i*int(unsafe.Sizeof(step{}))]))
}

func (a *arena) status() *status { return (*status)(unsafe.Pointer(&a.mem[0])) }

// room takes size bytes from an aligned place on. The memory is zero.
func (a *arena) room(size int) (int, error) {
	off := (a.off + 7) &^ 7
	if size > len(a.mem) || off+size > len(a.mem) {
		return dataStart, fmt.Errorf("start script: more than %d MiB of arguments, environment and mount options: shorten the environment", (arenaSize-dataStart)>>20)
	}
	a.off = off + size
	return off, nil
}

func (a *arena) put(b []byte) (uintptr, error) {
	off, err := a.room(len(b))
	if err == nil {
		copy(a.mem[off:], b)
	}
	return uintptr(off), err
}

// putString copies t and a NUL.
func (a *arena) putString(t string) (uintptr, error) {
	off, err := a.room(len(t) + 1)
	if err == nil {
		copy(a.mem[off:], t)
	}
	return uintptr(off), err
}

// stringAt reads the string at an address.
func (a *arena) stringAt(addr uintptr) string {
	b := a.mem[addr-a.base():]
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// stringsAt reads a vector of strings at an address.
func (a *arena) stringsAt(addr uintptr) (l []string) {
	for off := addr - a.base(); ; off += uintptr(wordSize) {
		p := *(*uintptr)(unsafe.Pointer(&a.mem[off]))
		if p == 0 {
			return l
		}
		l = append(l, a.stringAt(p))
	}
}

func (a *arena) putWord(off, w uintptr) { *(*uintptr)(unsafe.Pointer(&a.mem[off])) = w }

func appendWord(b []byte, w uintptr) []byte {
	return append(b, unsafe.Slice((*byte)(unsafe.Pointer(&w)), wordSize)...)
}

// commandLine is where the kernel put this process's arguments: os.Args are strings on that very memory.
func commandLine() (addr uintptr, size int) {
	if len(os.Args) == 0 || len(os.Args[0]) == 0 {
		return 0, 0
	}
	first, last := os.Args[0], os.Args[len(os.Args)-1]
	addr = uintptr(unsafe.Pointer(unsafe.StringData(first)))
	if last == "" {
		return addr, len(first) + 1
	}
	end := uintptr(unsafe.Pointer(unsafe.StringData(last))) + uintptr(len(last)) + 1
	if end < addr || end-addr > 1<<20 { // somebody replaced os.Args
		return addr, len(first)
	}
	return addr, int(end - addr)
}

func (a *arena) start() unsafe.Pointer { return unsafe.Pointer(&a.mem[0]) }

func (a *arena) head() *status { return a.status() }

// publish makes the first n steps known to the player. The message that wakes the child orders it before
// the child's reads.
func (a *arena) publish(n int) { a.status().n = int32(n) }

// cloneArgs is struct clone_args of clone3(2), version 2.
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls, setTid, setTidSize, cgroup uint64
}

const cloneIntoCgroup = 0x200000000

// birth is what the kernel reads and writes when it makes the child. It is in the arena: it only has addresses, and what is
// on a goroutine's stack may be moved before the kernel is asked.
type birth struct {
	args  cloneArgs
	pidfd int32
}

func (a *arena) birth() (*birth, error) {
	at, err := a.room(int(unsafe.Sizeof(birth{})))
	if err != nil {
		return nil, err
	}
	return (*birth)(unsafe.Pointer(&a.mem[at])), nil
}

// clone makes the child that st describes (cgroup -1: where we are), with clone3 only where a cgroup asks for it:
// filters of other engines refuse clone3. beside: it shares our memory.
func (a *arena) clone(st stage, n int, flags uintptr, cgroup int, beside bool) (pid, pidfd int, errno syscall.Errno) {
	b, err := a.birth()
	if err != nil {
		return -1, -1, unix.ENOMEM
	}
	b.pidfd = -1
	a.publish(n)
	st.base = a.start()
	do, at := play, &st
	var stack, stackSize uintptr
	if beside {
		if err := a.openSide(); err != nil {
			return -1, -1, unix.ENOMEM
		}
		do, at = playBeside, (*stage)(unsafe.Pointer(&a.side[0]))
		*at = st
		stack, stackSize = uintptr(unsafe.Pointer(&a.side[0])), sideSize
		flags |= unix.CLONE_VM
	}
	var p uintptr
	if cgroup < 0 {
		p, errno = do(at, unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), stack+stackSize, uintptr(unsafe.Pointer(&b.pidfd)), 0, 0)
	} else {
		b.args = cloneArgs{
			flags:      uint64(flags) | cloneIntoCgroup,
			pidfd:      uint64(uintptr(unsafe.Pointer(&b.pidfd))),
			exitSignal: uint64(unix.SIGCHLD),
			stack:      uint64(stack),
			stackSize:  uint64(stackSize),
			cgroup:     uint64(cgroup),
		}
		p, errno = do(at, unix.SYS_CLONE3, uintptr(unsafe.Pointer(&b.args)), unsafe.Sizeof(b.args), 0, 0, 0)
	}
	return int(p), int(b.pidfd), errno
}

// openSide makes room for a child that shares our memory. It is private: where that child forks, both have their
// own registers, as with any other.
func (a *arena) openSide() (err error) {
	if a.side == nil {
		a.side, err = unix.Mmap(-1, 0, sideSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	}
	return err
}
