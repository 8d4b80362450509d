package script

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Reg names a register: the result of an earlier step, an argument of a later one. A register is 64
// bits wide, belongs to the process that plays, and is copied by a step that forks.
type Reg int16

// Conn is the register of the child's end of the connection to its parent. It is closed by execve.
const Conn Reg = 0

const maxRegs = 256

// Buf is memory that parent and child share: a structure that a step's argument points at, or room for
// a result. The zero Buf is no memory.
type Buf struct {
	off  uintptr // from the start of the arena
	size int
	text string
}

// Label is a place in a script that steps go on at. Make it with Script.Label, place it with Script.Mark.
type Label struct {
	at   int   // index of the step, -1 until marked
	uses []use // patched when marked
}

type use struct {
	step int
	els  bool
}

// Script is a list of steps and the memory that they refer to. It is not safe for concurrent use. Errors
// of writing it (too large, too many registers) are kept and returned by Err and Start, so that a script
// reads as a list.
type Script struct {
	arena   arena
	n       int // steps written
	entry   int // the first step that is played
	info    []info
	regs    []string // names, by register
	presets []preset
	keep    []int
	files   []*os.File // kept reachable until the script was started
	labels  []*Label
	buffers []label // of buffers, by offset
	meets   int
	heir    int // the first meeting point that the process of HandOver comes to, 0: there is no HandOver
	answer  Reg // takes what came at a meeting point
	err     error
	started bool
	aside   bool // there is a fork whose parent's side goes on
	shared  bool // a child plays in our memory
	filed   bool // the arena is a file
	written int  // steps whose names are in it
}

// info is what the printed form and a failure say of a step. The arguments themselves are not kept (they would all
// have to live on the heap, and every start would pay for what only --dry-run prints): the step has them.
type info struct {
	name, object string
	kinds        [6]kind
	n            uint8 // arguments
}

// kind is what an argument was written as.
type kind uint8

const (
	number kind = iota
	register
	text
	buffer
)

// label is what a buffer is called in the printed form.
type label struct {
	off  uintptr
	text string
}

type preset struct {
	reg   Reg
	value uintptr
}

// New returns an empty script. Close releases its memory.
func New() (*Script, error) { return newIn(-1) }

// NewIn is New in a file (of a tmpfs), so that a process which did not start the child can ask by ReadFailure how
// it went on after a step that waits for something else than its parent. The file may be closed afterwards.
func NewIn(f *os.File) (*Script, error) {
	fd, err := descriptor(f)
	if err != nil {
		return nil, err
	}
	s, err := newIn(fd)
	if err == nil {
		s.filed = true
	}
	return s, err
}

func newIn(fd int) (*Script, error) {
	s := &Script{n: prologue, entry: prologue, regs: []string{"conn"}, info: make([]info, prologue, prologue+256)}
	if err := s.arena.open(fd); err != nil {
		return nil, fmt.Errorf("memory for a start script: %w", err)
	}
	return s, nil
}

// Close releases the script's memory. A child that still plays it has the memory for itself; where it shares ours nothing
// is released, and that is an error.
func (s *Script) Close() error {
	if s.shared {
		return errPlayed
	}
	return s.arena.close()
}

// Err is the first error of writing the script, nil where there was none.
func (s *Script) Err() error {
	if s.err != nil {
		return s.err
	}
	for _, l := range s.labels {
		if l.at < 0 && len(l.uses) > 0 {
			i := s.info[l.uses[0].step]
			return fmt.Errorf("start script: step %q goes on at a label that was never placed", i.name)
		}
	}
	return nil
}

func (s *Script) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// Reg returns a new register. The name is for the printed form only.
func (s *Script) Reg(name string) Reg {
	if len(s.regs) == maxRegs {
		s.fail(fmt.Errorf("start script: more than %d descriptors and results are in use at once", maxRegs))
		return Conn
	}
	s.regs = append(s.regs, name)
	return Reg(len(s.regs) - 1)
}

// File returns a register that holds f's descriptor when the script begins, and keeps f open in the
// child until then and through the first step, which closes everything that was not named. The caller
// keeps f open until the script was started.
func (s *Script) File(name string, f *os.File) Reg {
	r := s.Reg(name)
	fd, err := descriptor(f)
	if err != nil {
		s.fail(fmt.Errorf("start script: %s: %w", name, err))
		return r
	}
	s.presets = append(s.presets, preset{r, uintptr(fd)})
	s.keep = append(s.keep, fd)
	s.files = append(s.files, f)
	return r
}

// descriptor is f.Fd, which would make f blocking.
func descriptor(f *os.File) (fd int, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = c.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}

// Keep lets the descriptor numbered fd through the script's first step. 0, 1 and 2 always pass.
func (s *Script) Keep(fd int) { s.keep = append(s.keep, fd) }

// Do adds a step: the system call nr with at most six arguments, each one of int, int32, uint32, uint64,
// uintptr, string (a NUL is added), Reg, Buf, or nil for 0. name is a verb that a user understands
// ("mount", "set the hostname"); Step.On adds the object.
func (s *Script) Do(name string, nr uintptr, args ...any) *Step {
	if len(args) > 6 {
		s.fail(fmt.Errorf("start script: step %q has %d arguments", name, len(args)))
		return &Step{s: s, i: -1}
	}
	st := step{nr: nr, out: -1, els: next, then: next}
	in := info{name: name, n: uint8(len(args))}
	for i, a := range args {
		switch v := a.(type) {
		case nil:
		case int:
			st.a[i] = uintptr(v)
		case int32:
			st.a[i] = uintptr(v)
		case uint32:
			st.a[i] = uintptr(v)
		case uint64:
			st.a[i] = uintptr(v)
		case uintptr:
			st.a[i] = v
		case string:
			st.a[i], in.kinds[i] = s.address(s.putString(v)), text
		case Buf:
			if v.size > 0 {
				st.a[i], in.kinds[i] = s.address(v.off), buffer
			}
		case Reg:
			st.a[i], in.kinds[i] = uintptr(v), register
			st.regs |= 1 << i
		default:
			s.fail(fmt.Errorf("start script: step %q: argument %d has a type that is none of its", name, i))
		}
	}
	return s.add(st, in)
}

func (s *Script) add(st step, i info) *Step {
	if s.err != nil {
		return &Step{s: s, i: -1}
	}
	if s.n == maxSteps {
		s.fail(fmt.Errorf("start script: more than %d steps: the configuration asks for too many mounts, devices or limits", maxSteps))
		return &Step{s: s, i: -1}
	}
	*s.arena.step(s.n) = st
	s.info = append(s.info, i)
	s.n++
	return &Step{s: s, i: s.n - 1}
}

// put copies b into the arena and returns its offset.
func (s *Script) put(b []byte) uintptr {
	off, err := s.arena.put(b)
	if err != nil {
		s.fail(err)
	}
	return off
}

func (s *Script) putString(v string) uintptr {
	off, err := s.arena.putString(v)
	if err != nil {
		s.fail(err)
	}
	return off
}

func (s *Script) address(off uintptr) uintptr { return s.arena.base() + off }

// Bytes copies b into the shared memory. text stands for it in the printed form.
func (s *Script) Bytes(text string, b []byte) Buf {
	buf := Buf{off: s.put(b), size: len(b), text: text}
	if len(b) > 0 {
		s.buffers = append(s.buffers, label{buf.off, text})
	}
	return buf
}

// Room returns size zero bytes for a result.
func (s *Script) Room(text string, size int) Buf { return s.Bytes(text, make([]byte, size)) }

// Strings copies a vector of strings as execve wants it: an array of pointers that ends with a nil one.
func (s *Script) Strings(v []string) Buf {
	p := make([]byte, 0, (len(v)+1)*wordSize)
	for _, t := range v {
		p = appendWord(p, s.address(s.putString(t)))
	}
	return s.Bytes(vector, appendWord(p, 0))
}

// vector is the text of a buffer that is printed as the strings that it points at.
const vector = "\x00strings"

// PutAddress writes the address of what at off bytes into b: for structures that point at others.
func (s *Script) PutAddress(b Buf, off int, what Buf) {
	s.arena.putWord(b.off+uintptr(off), s.address(what.off))
}

// Label returns a place for Step.Else and Step.Then, to be placed by Mark.
func (s *Script) Label() *Label {
	l := &Label{at: -1}
	s.labels = append(s.labels, l)
	return l
}

// Mark places l before the next step. A script that goes back must be sure to end: only the loop of an
// init process does.
func (s *Script) Mark(l *Label) {
	l.at = s.n
	for _, u := range l.uses {
		s.patch(u, l.at)
	}
}

func (s *Script) refer(l *Label, u use) {
	l.uses = append(l.uses, u)
	if l.at >= 0 {
		s.patch(u, l.at)
	}
}

func (s *Script) patch(u use, at int) {
	if u.els {
		s.arena.step(u.step).els = int32(at)
	} else {
		s.arena.step(u.step).then = int32(at)
	}
}

// Jump goes on at l.
func (s *Script) Jump(l *Label) {
	s.add(step{nr: opJump, out: -1, els: next, then: next}, info{name: "go on"}).Then(l)
}

// Comparison is what Expect asks of a value.
type Comparison uint8

// Comparisons of (register AND mask) with a value, as unsigned 64-bit numbers.
const (
	Equal Comparison = iota
	NotEqual
	Less
)

// All is the mask that leaves a value as it is.
const All = ^uint64(0)

// Expect adds a condition: r AND mask compared with want. Where it does not hold, the script goes on at
// the step's Else, or without one fails with errno.
func (s *Script) Expect(name string, r Reg, mask uint64, c Comparison, want uint64, errno syscall.Errno) *Step {
	st := step{nr: opExpect, out: -1, els: next, then: next, regs: 1}
	st.a = [6]uintptr{uintptr(r), uintptr(mask), uintptr(c), uintptr(want), uintptr(errno)}
	return s.add(st, info{name: name})
}

// ExpectSame is Expect for two registers that must be equal.
func (s *Script) ExpectSame(name string, a, b Reg, errno syscall.Errno) *Step {
	st := step{nr: opExpect, out: -1, els: next, then: next, regs: 1 | 1<<3}
	mask := All
	st.a = [6]uintptr{uintptr(a), uintptr(mask), uintptr(Equal), uintptr(b), uintptr(errno)}
	return s.add(st, info{name: name})
}

// Fail ends the script with errno.
func (s *Script) Fail(name string, errno syscall.Errno) *Step {
	return s.add(step{nr: opFail, out: -1, els: next, then: next, a: [6]uintptr{uintptr(errno)}}, info{name: name})
}

// Set puts a number or another register's value into r.
func (s *Script) Set(r Reg, value any) *Step {
	return s.Do("set", opSet, value).To(r)
}

// Operation is what Compute does.
type Operation uint8

// Operations of Compute.
const (
	And Operation = iota
	Or
	Add
	ShiftRight
	ShiftLeft
)

// Compute sets dst to src op value.
func (s *Script) Compute(dst, src Reg, op Operation, value uint64) {
	st := step{nr: opCompute, out: int16(dst), els: next, then: next, regs: 1}
	st.a = [6]uintptr{uintptr(src), uintptr(op), uintptr(value)}
	s.add(st, info{name: "compute"})
}

// Load sets r to the size bytes (1, 2, 4, 8; 4 and less are sign-extended from 4 bytes only where size is 4)
// at off bytes into b.
func (s *Script) Load(r Reg, b Buf, off, size int) {
	if off < 0 || off+size > b.size {
		s.fail(fmt.Errorf("start script: load of %d bytes at %d from %q, which has %d", size, off, b.text, b.size))
		return
	}
	st := step{nr: opLoad, out: int16(r), els: next, then: next}
	st.a = [6]uintptr{b.off + uintptr(off), uintptr(size)}
	s.add(st, info{name: "load"})
}

// Store writes the low 4 bytes of r at off bytes into b.
func (s *Script) Store(b Buf, off int, r Reg) {
	if off < 0 || off+4 > b.size {
		s.fail(fmt.Errorf("start script: store of 4 bytes at %d into %q, which has %d", off, b.text, b.size))
		return
	}
	st := step{nr: opStore, out: -1, els: next, then: next, regs: 2}
	st.a = [6]uintptr{b.off + uintptr(off), uintptr(r)}
	s.add(st, info{name: "store"})
}

// HandOver adds a fork whose child goes on with the script in its parent's place, as a child of the parent's
// parent: Child.Pid becomes its pid. flags are CLONE_NEW* of clone(2). This is how namespaces are entered
// that only a new process is in: a pid namespace that was joined, everything in a user namespace that was.
func (s *Script) HandOver(name string, flags uintptr) {
	t := s.Do(name, syscall.SYS_CLONE, flags|syscall.CLONE_PARENT|uintptr(syscall.SIGCHLD), 0, 0, 0, 0)
	t.step().flags |= flagHandOver
	s.heir = s.meets + 1
}

// Aside adds a fork whose child goes on with the script, while its parent goes on at l, quietly (see Quiet).
// Both have the child's pid or 0 in r.
func (s *Script) Aside(name string, r Reg, l *Label) {
	t := s.Do(name, syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0).To(r)
	t.step().flags |= flagAside
	if s.aside = true; s.shared {
		s.fail(errAside)
	}
	s.Expect("in the child", r, All, Equal, 0, 0).Else(l)
}

// Quiet takes this process out of the story: its steps are no longer recorded, and where one fails it
// exits with status. For processes beside the one that execve's the program.
func (s *Script) Quiet(status int) {
	st := step{nr: opQuiet, out: -1, els: next, then: next, a: [6]uintptr{uintptr(status)}}
	s.add(st, info{name: "quiet"})
}

// Overwrite copies text over the playing process's own memory of its command line (os.Args), so that ps
// shows it; what does not fit is cut, what remains is zeroed.
func (s *Script) Overwrite(text string) {
	addr, size := commandLine()
	if size == 0 {
		return
	}
	b := make([]byte, size)
	copy(b[:size-1], text)
	buf := s.Bytes(text, b)
	st := step{nr: opCopy, out: -1, els: next, then: next, a: [6]uintptr{addr, buf.off, uintptr(size)}}
	s.add(st, info{name: "name the process", object: text})
}

// Close adds a step that closes r.
func (s *Script) CloseReg(r Reg) { s.Do("close", syscall.SYS_CLOSE, r) }

var (
	errAside  = errors.New("start script: a process that goes on beside the program can't share its parent's memory")
	errPlayed = errors.New("start script: a child still plays it in its parent's memory")
)
