package script

import (
	"syscall"
	"unsafe"
)

// The Go runtime keeps these three for programs that fork by themselves (gVisor among them).

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// rawClone returns twice where st is nil. Else the child shares our memory: it runs on the stack that the arguments
// name, and calls run(st) there.
//
//go:noescape
func rawClone(nr, a1, a2, a3, a4, a5 uintptr, st *stage) (r, errno uintptr)

func trap()

// again is how often EAGAIN is retried. Most of what answers it (openat2 racing with a rename) succeeds at
// once; fork and execve answer it for a limit that stays.
const again = 64

// stage is what a player starts with. Everything is a plain number or a pointer outside of Go's heap.
type stage struct {
	base  unsafe.Pointer // the arena
	entry int32
	regs  [maxRegs]uintptr
}

// play makes the child and, in it, plays the script. In the parent it returns at once. The child has a copy of one
// thread of a Go program: from afterForkInChild on it must not allocate, grow the stack or call anything but raw
// system calls.
//
//go:noinline
//go:norace
//go:nocheckptr
func play(st *stage, nr, a1, a2, a3, a4, a5 uintptr) (pid uintptr, errno syscall.Errno) {
	beforeFork()
	pid, e := rawClone(nr, a1, a2, a3, a4, a5, nil)
	if e != 0 || pid != 0 {
		afterFork()
		return pid, syscall.Errno(e)
	}
	afterForkInChild()
	run(st)
	return 0, 0 // not reached
}

// playBeside is play with a child that shares our memory (CLONE_VM), on a stack of its own: nothing is copied, and
// neither side's writes are faults of the other. To Go's runtime the child does not exist. Every signal is blocked
// in it: a handler of ours (they stay until execve, or until a step resets them) would find no goroutine that is its.
//
//go:noinline
//go:norace
//go:nocheckptr
func playBeside(st *stage, nr, a1, a2, a3, a4, a5 uintptr) (pid uintptr, errno syscall.Errno) {
	beforeFork()
	pid, e := rawClone(nr, a1, a2, a3, a4, a5, st)
	afterFork()
	return pid, syscall.Errno(e)
}

// run plays the script. It does not return, and neither grows the stack nor touches Go's heap.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func run(st *stage) {
	var (
		a          [6]uintptr
		i, at      int32
		k          uintptr
		tries      int
		t          *step
		head       *status
		r          uintptr
		e          syscall.Errno
		expected   bool
		holds      bool
		quiet      bool
		quietState uintptr = 1
	)
	head = (*status)(st.base)
	for i = st.entry; i < head.n; i = at {
		t = (*step)(unsafe.Add(st.base, headSize+uintptr(i)*unsafe.Sizeof(step{})))
		at = i + 1
		if !quiet && t.nr != opQuiet {
			head.step = i
		}
		for k = 0; k < 6; k++ {
			a[k] = t.a[k]
			if t.regs&(1<<k) != 0 {
				a[k] = st.regs[a[k]&(maxRegs-1)]
			}
		}
		r, e, holds = 0, 0, true
		switch t.nr {
		case opJump:
		case opExpect:
			switch Comparison(a[2]) {
			case Equal:
				holds = a[0]&a[1] == a[3]
			case NotEqual:
				holds = a[0]&a[1] != a[3]
			case Less:
				holds = a[0]&a[1] < a[3]
			}
			if !holds {
				e = syscall.Errno(a[4])
				if e == 0 {
					e = syscall.EPROTO
				}
			}
		case opFail:
			e = syscall.Errno(a[0])
		case opSet:
			r = a[0]
		case opCompute:
			r = a[0]
			switch Operation(a[1]) {
			case And:
				r &= a[2]
			case Or:
				r |= a[2]
			case Add:
				r += a[2]
			case ShiftRight:
				r >>= a[2] & 63
			case ShiftLeft:
				r <<= a[2] & 63
			}
		case opLoad:
			switch a[1] {
			case 1:
				r = uintptr(*(*uint8)(unsafe.Add(st.base, a[0])))
			case 2:
				r = uintptr(*(*uint16)(unsafe.Add(st.base, a[0])))
			case 4:
				r = uintptr(*(*int32)(unsafe.Add(st.base, a[0])))
			default:
				r = uintptr(*(*uint64)(unsafe.Add(st.base, a[0])))
			}
		case opStore:
			*(*uint32)(unsafe.Add(st.base, a[0])) = uint32(a[1])
		case opQuiet:
			quiet, quietState = true, a[0]
		case opCopy:
			for k = 0; k < a[2]; k++ {
				*(*byte)(unsafe.Add(st.base, a[0]-uintptr(st.base)+k)) = *(*byte)(unsafe.Add(st.base, a[1]+k))
			}
		default:
			for tries = 0; ; tries++ {
				r, _, e = syscall.RawSyscall6(t.nr, a[0], a[1], a[2], a[3], a[4], a[5])
				if e != syscall.EINTR && (e != syscall.EAGAIN || tries == again) || named(t, e) {
					break
				}
			}
		}
		if e != 0 {
			expected = !holds && t.flags&flagElse != 0 || named(t, e)
			if !expected {
				if !quiet {
					head.failedStep = i
					head.errno = int32(e)
					head.failed = 1
					quietState = 125
				}
				break
			}
			r = -uintptr(e)
			if t.els >= 0 {
				at = t.els
			}
		} else {
			if t.then >= 0 {
				at = t.then
			}
			if r != 0 && t.flags&flagHandOver != 0 {
				head.successor = int32(r)
				quietState = 0
				break
			}
			if r != 0 && t.flags&flagAside != 0 {
				quiet = true
			}
		}
		if t.out >= 0 {
			st.regs[t.out&(maxRegs-1)] = r
		}
	}
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, quietState, 0, 0)
		trap()
	}
}

// named says whether the step names e.
//
//go:nosplit
//go:norace
func named(t *step, e syscall.Errno) bool {
	for k := uint8(0); k < t.nmay && k < maxMay; k++ {
		if t.may[k] == uint8(e) {
			return true
		}
	}
	return false
}
