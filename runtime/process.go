package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/protocol"
	"github.com/berth-engine/berth/runtime/sealed"
)

// shimProcess is a shim that we started and its launch connection.
type shimProcess struct {
	conn  *protocol.Conn
	pidfd *os.File
	gone  chan struct{} // closed when it was reaped
	kept  int           // containers so far
}

// crashLog is where a shim's last words go, in the container's run-time directory.
const crashLog = "shim.log"

// shimEnv is a shim's whole environment: one processor is enough for what it does, nothing is to be looked up about
// it, and garbage is collected from 2 MB on only: a shim that does little never has that much, and the collector's own
// tables would cost more than it gives back (seen: 300 KB).
func shimEnv() []string {
	return []string{"GOMAXPROCS=1", "GOGC=50", "GODEBUG=containermaxprocs=0,updatemaxprocs=0"}
}

// launch starts berth-runtime as a shim, whose last words go to log.
func (l *Launcher) launch(id, log string) (_ *shimProcess, err error) {
	ours, theirs, err := protocol.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	conn, err := protocol.NewConn(ours, protocol.Engine, protocol.Launched)
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	pid, pidfd, err := l.spawn(id, log, theirs)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s for container %s: %w", l.opts.Program, id, err), conn.Close())
	}
	p := &shimProcess{conn: conn, pidfd: pidfd, gone: make(chan struct{})}
	go p.reap()
	if err := l.nest.move(pid); err != nil {
		p.kill()
		return nil, errors.Join(err, conn.Close())
	}
	return p, nil
}

// spawn starts the process, in a session of its own, with the connection as descriptor 3.
func (l *Launcher) spawn(id, logPath string, conn *os.File) (pid int, pidfd *os.File, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, nil, err
	}
	defer log.Close()
	program, err := sealed.Open(l.opts.Program)
	if err != nil {
		return 0, nil, err
	}
	defer program.Close()
	above, err := dupAbove(conn, program)
	if err != nil {
		return 0, nil, err
	}
	defer above.Close()
	fd := -1
	attributes := &syscall.SysProcAttr{Setsid: true, PidFD: &fd}
	l.nest.attributes(attributes)
	pid, err = syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", program.Fd()), []string{"berth-runtime", "shim", id}, &syscall.ProcAttr{
		Dir: "/", Env: shimEnv(), Files: []uintptr{null.Fd(), null.Fd(), log.Fd(), above.Fd()},
		Sys: attributes,
	})
	if err != nil {
		return 0, nil, err
	}
	err = unix.SetNonblock(fd, true) // so that it can be polled
	return pid, os.NewFile(uintptr(fd), "pidfd"), err
}

// dupAbove duplicates f to a number above that of program. In the child of ForkExec the number after the highest of the
// descriptors that it is given can become that of its own pipe: were that the program's, a pipe would be executed
// (EACCES; seen, one start in a hundred beside others).
func dupAbove(f, program *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, int(program.Fd())+1)
	if err != nil {
		return nil, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// reap waits for the process without keeping a thread waiting.
func (p *shimProcess) reap() {
	defer close(p.gone)
	defer p.pidfd.Close()
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		err := unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED, nil)
		return err != unix.EAGAIN && err != unix.EINTR
	})
}

// isGone tells whether the process has ended.
func (p *shimProcess) isGone() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// kill kills the process and waits until it is gone.
func (p *shimProcess) kill() {
	if raw, err := p.pidfd.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	}
	<-p.gone
}

// interrupt makes waiting for the shim end with ctx. stop ends that; false: ctx was first.
func (p *shimProcess) interrupt(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = p.conn.File().SetDeadline(past) })
}

// because is why the shim did not answer: ctx, or what it said last.
func (p *shimProcess) because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if isHangup(err) {
		return ErrLost
	}
	return err
}
