package script

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// StartOptions say how the child is made.
type StartOptions struct {
	// Flags are CLONE_NEW* of clone(2). CLONE_NEWTIME and CLONE_NEWCGROUP belong into steps.
	Flags uintptr
	// Cgroup is the directory of a version 2 cgroup that the child is born in (CLONE_INTO_CGROUP), nil: the
	// caller's. Where clone3 is not there or forbidden, Start fails with ErrNoClone3.
	Cgroup *os.File
	// Share lets the child play in the parent's memory until its execve: no page is copied, on either side. The script
	// stays open until Started or Abandon returned. What a step changes of a process's memory is the parent's as well
	// (PR_SET_DUMPABLE), the init of Aside can't be played (it would never let go of the memory), and all signals are
	// blocked until a step lets them through.
	Share bool
}

// ErrNoClone3 says that the kernel, or a filter around us, does not take clone3: the cgroup has to be joined
// by a step.
var ErrNoClone3 = errors.New("clone3 into a cgroup is not possible here")

// Child is a process that plays a script.
type Child struct {
	// Pid is the child's process id. A script that forks changes it: it is final after Started or Await.
	Pid int
	// PidFD refers to the process that Start made, also when the script forked since. The caller closes it.
	PidFD *os.File

	s           *Script
	conn        int // our end, -1 when closed
	met         int
	first       int
	adopted     bool             // first was reaped
	firstStatus *unix.WaitStatus // how it ended without a successor
	lastErr     error
}

// Failure is a step that failed.
type Failure struct {
	Step   string        // what was being done: "mount"
	Object string        // on what: "/proc"; may be empty
	Errno  syscall.Errno // why; 0 where Signal ended the child
	Signal syscall.Signal
	Exec   bool // the step starts the user's program: ENOENT is exit status 127, all else 126
	Index  int  // of the step in the script
}

func (f *Failure) Error() string {
	what := f.Step
	if f.Object != "" {
		what += " " + f.Object
	}
	if f.Errno == 0 && f.Signal != 0 {
		return what + ": the starting process was killed by " + unix.SignalName(f.Signal)
	}
	return what + ": " + f.Errno.Error()
}

// Unwrap returns the errno, so that errors.Is(err, fs.ErrNotExist) and its kin work.
func (f *Failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

// Status is the exit status that a shell gives for the failure, and Docker with it: 127 where the program is
// not there, 126 where it can't be executed, 125 for all else.
func (f *Failure) Status() int {
	switch {
	case !f.Exec:
		return 125
	case f.Errno == syscall.ENOENT || f.Errno == syscall.ENOTDIR:
		return 127
	default:
		return 126
	}
}

// Start makes the child. It plays at once, while the caller may go on adding steps behind a meeting point.
// PR_SET_PDEATHSIG counts the calling thread as the parent: a caller whose script uses it locks its goroutine
// to its thread for as long as the child lives.
func (s *Script) Start(o StartOptions) (*Child, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	if s.started {
		return nil, errors.New("start script: it was started before")
	}
	if o.Share && s.aside {
		return nil, errAside
	}
	ours, theirs, err := connection()
	if err != nil {
		return nil, fmt.Errorf("connection to the starting process: %w", err)
	}
	defer unix.Close(theirs)
	var st stage
	st.regs[Conn] = uintptr(theirs)
	for _, p := range s.presets {
		st.regs[p.reg] = p.value
	}
	s.writePrologue(append(slices.Clone(s.keep), theirs))
	s.writeNames()
	st.entry = int32(s.entry)
	s.started, s.shared = true, o.Share
	pid, pidfd, errno := s.clone(st, o)
	runtime.KeepAlive(s.files)
	if errno != 0 {
		s.shared = false
		unix.Close(ours)
		if o.Cgroup != nil && (errno == unix.ENOSYS || errno == unix.EPERM || errno == unix.EINVAL) {
			s.started = false
			return nil, ErrNoClone3
		}
		return nil, &Failure{Step: "make a process", Errno: errno}
	}
	return &Child{Pid: pid, first: pid, PidFD: os.NewFile(uintptr(pidfd), "pidfd"), s: s, conn: ours}, nil
}

func connection() (ours, theirs int, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, err
	}
	// 0, 1 and 2 are the program's: a runtime that was started without them must not lend one.
	for i, fd := range p {
		if fd > 2 {
			continue
		}
		up, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		unix.Close(fd)
		if err != nil {
			unix.Close(p[1-i])
			return -1, -1, err
		}
		p[i] = up
	}
	return p[0], p[1], nil
}

// writePrologue writes the first steps: every descriptor that nobody named is closed.
func (s *Script) writePrologue(keep []int) {
	keep = append(keep, 0, 1, 2)
	slices.Sort(keep)
	keep = slices.Compact(keep)
	type span struct{ from, to uint32 }
	var spans []span
	for i, fd := range keep {
		if i+1 < len(keep) {
			if keep[i+1] > fd+1 {
				spans = append(spans, span{uint32(fd + 1), uint32(keep[i+1] - 1)})
			}
			continue
		}
		spans = append(spans, span{uint32(fd + 1), ^uint32(0)})
	}
	if len(spans) > prologue { // what is kept lies far apart: the last gaps stay until execve closes them
		spans = append(spans[:prologue-1], spans[len(spans)-1])
	}
	s.entry = prologue - len(spans)
	for i, c := range spans {
		at := s.entry + i
		*s.arena.step(at) = step{nr: unix.SYS_CLOSE_RANGE, a: [6]uintptr{uintptr(c.from), uintptr(c.to)}, out: -1, els: next, then: next}
		s.info[at] = info{name: "close what was not named", n: 3}
	}
}

// clone makes the child; pidfd is that of the child.
func (s *Script) clone(st stage, o StartOptions) (pid, pidfd int, errno syscall.Errno) {
	flags := o.Flags | unix.CLONE_PIDFD
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	if o.Cgroup == nil {
		return s.arena.clone(st, s.n, flags, -1, o.Share)
	}
	fd, err := descriptor(o.Cgroup)
	if err != nil {
		return -1, -1, unix.EBADF
	}
	return s.arena.clone(st, s.n, flags, fd, o.Share)
}

// Meet waits until the child has come to its next meeting point. The error is a *Failure where the child
// failed on its way. Where there is an error it is no more, and has been reaped.
func (c *Child) Meet() error {
	n, got, err := c.read()
	if err != nil {
		c.Abandon()
		return err
	}
	if n == 0 {
		c.adopt()
		if err := c.ended(); err != nil {
			return err
		}
		c.Abandon()
		return errors.New("the starting process went on without meeting its parent")
	}
	c.met++
	if c.s.heir > 0 && c.met >= c.s.heir {
		c.adopt()
	}
	if int(got) != c.met {
		c.Abandon()
		return fmt.Errorf("the starting process is at meeting point %d, expected is %d", got, c.met)
	}
	return nil
}

// Go lets the child go on from where it was met, and hands files over: exactly those that Script.Receive
// named. Steps that were added since are played. The caller still owns files.
func (c *Child) Go(files ...*os.File) error {
	if err := c.s.Err(); err != nil {
		return err
	}
	c.s.writeNames()
	c.s.arena.publish(c.s.n)
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			var err error
			if fds[i], err = descriptor(f); err != nil {
				return fmt.Errorf("hand over %s: %w", f.Name(), err)
			}
		}
		oob = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(c.conn, []byte{1}, oob, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		runtime.KeepAlive(files)
		if err == unix.EPIPE {
			return nil // it died: Meet or Started say why
		}
		return err
	}
}

// Started waits until the child has executed the program. The error is a *Failure where it failed on its
// way. Where there is an error it is no more, and has been reaped; in any case what Start acquired is released.
func (c *Child) Started() error {
	if c.conn < 0 {
		return c.lastErr
	}
	n, _, err := c.read()
	if err == nil && n != 0 {
		err = errors.New("the starting process waits at a meeting point, its execve was expected")
	}
	if err != nil {
		c.Abandon()
	} else {
		c.adopt()
		err = c.ended()
	}
	c.close()
	c.lastErr = err
	return err
}

// Release lets go of a child that goes on by itself, waiting for something else than its parent.
func (c *Child) Release() { c.close() }

// Abandon kills a child that has not executed its program and reaps it.
func (c *Child) Abandon() {
	// by descriptor: should somebody else have reaped it, its pid may be another's by now
	_ = unix.PidfdSendSignal(int(c.PidFD.Fd()), unix.SIGKILL, nil, 0)
	c.reap(c.first)
	c.s.shared = false
	if p := int(c.s.arena.head().successor); c.s.heir > 0 && p != 0 && (c.adopted || c.Pid == c.first) {
		c.Pid = p
		if fd, err := unix.PidfdOpen(p, 0); err == nil {
			// ours, if it can be waited for at all
			if unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == nil {
				_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
				c.reap(p)
			}
			unix.Close(fd)
		}
	}
	c.close()
}

func (c *Child) close() {
	if c.conn >= 0 {
		unix.Close(c.conn)
		c.conn = -1
	}
}

func (c *Child) read() (n int, b byte, err error) {
	var buf [1]byte
	for {
		n, err = unix.Read(c.conn, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err == unix.ECONNRESET { // the child ended with something of ours unread
			n, err = 0, nil
		}
		return n, buf[0], err
	}
}

// adopt takes note of the process that goes on in the first one's place. It is called when the first one
// has ended or is about to: its successor met us, or nobody holds the connection any more.
func (c *Child) adopt() {
	if c.s.heir == 0 || c.adopted {
		return
	}
	if h := c.s.arena.head(); h.failed != 0 && h.successor == 0 {
		return // it failed before it had one; ended reaps it
	}
	ws := c.reap(c.first)
	c.adopted = true
	if p := c.s.arena.head().successor; p != 0 {
		c.Pid = int(p)
	} else {
		c.firstStatus = &ws
	}
}

// ended says how a child that has closed its connection ended: nil where it executed the program.
func (c *Child) ended() error {
	defer func() { c.s.shared = false }() // the kernel gives it another memory, or none, before it closes anything
	h := c.s.arena.head()
	if h.failed != 0 {
		f := c.s.failure(int(h.failedStep), syscall.Errno(h.errno))
		c.reap(c.Pid)
		c.close()
		return &f
	}
	if c.s.arena.step(int(h.step)).nr == unix.SYS_EXECVE {
		return nil
	}
	f := c.s.failure(int(h.step), 0)
	var ws unix.WaitStatus
	if c.firstStatus != nil {
		ws = *c.firstStatus
	} else {
		ws = c.reap(c.Pid)
	}
	c.close()
	if ws.Signaled() {
		f.Signal = ws.Signal()
		return &f
	}
	return fmt.Errorf("%s: the starting process ended with status %d before it executed the program", f.Step, ws.ExitStatus())
}

func (c *Child) reap(pid int) (ws unix.WaitStatus) {
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			return ws
		}
	}
}

func (s *Script) failure(i int, errno syscall.Errno) Failure {
	f := Failure{Step: s.info[i].name, Object: s.info[i].object, Errno: errno, Index: i}
	f.Exec = s.arena.step(i).flags&flagExec != 0
	return f
}
