package shim

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/compile"
	"github.com/berth-engine/berth/runtime/protocol"
	"github.com/berth-engine/berth/runtime/script"
)

// exec runs another process; the connection is its stream.
func (c *container) exec(conn *protocol.Conn, m protocol.Message) {
	var r protocol.ExecRequest
	err := m.Decode(&r)
	if err == nil {
		err = c.enter()
	}
	if err != nil {
		_ = conn.Send(protocol.Failed, failure(err))
		return
	}
	defer c.leave()
	p, err := c.added(r)
	if err != nil {
		_ = conn.Send(protocol.Failed, failure(err))
		return
	}
	if err := conn.Send(protocol.Started, protocol.StartedReply{Pid: p.pid, At: time.Now()}); err != nil {
		r.Attach = protocol.AttachRequest{} // nobody is there; it runs all the same
	}
	a := newReader(conn, r.Attach)
	p.io.readers.add(a)
	go func() {
		p.io.listen(a, func(r protocol.SignalRequest) error { return signalTo(p.pidfd, unix.Signal(r.Signal)) })
		if r.EndWithEngine {
			_ = signalTo(p.pidfd, unix.SIGKILL)
		}
		_ = conn.Close()
	}()
	p.io.pump(nil)
	p.end(c)
	<-a.gone
}

// enter counts an exec. It fails once the container has ended.
func (c *container) enter() error {
	if !c.begin() {
		return errEnded
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.execs++
	return nil
}

func (c *container) leave() {
	c.mu.Lock()
	c.execs--
	c.mu.Unlock()
	c.work.Done()
}

// process is one that was added to the container.
type process struct {
	pid   int
	pidfd *os.File
	io    *stdio
}

// added starts the process.
func (c *container) added(r protocol.ExecRequest) (_ *process, err error) {
	mode := protocol.StdinNone
	if r.Attach.Stdin {
		mode = protocol.StdinOnce
	}
	spec := *c.spec
	spec.Process = r.Process
	p := &process{}
	if p.io, err = newStdio(r.Process.Terminal, mode, hostID(&spec)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.io.close()
		}
	}()
	f := c.filter
	if r.Filter != nil {
		f = filter{r.Filter, r.FilterBits}
	}
	namespaces, err := c.namespaces()
	if err != nil {
		return nil, err
	}
	join, err := c.group.Join()
	if err != nil {
		return nil, err
	}
	defer join.Close()
	plan, err := compile.Exec(r.Process, compile.ExecInputs{
		Inputs: compile.Inputs{Cgroup: join, Stdio: p.io.child, Console: p.io.theirs, Filter: f.bpf, FilterFlags: f.bits, Host: c.machine.host()},
		Target: c.pidfd, Namespaces: namespaces,
	})
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	done := c.reaper.begin()
	child, err := plan.Launch()
	if err != nil {
		done(0)
		return nil, err
	}
	done(child.Pid)
	p.pid = child.Pid
	if p.pidfd, err = pidfdOf(child); err != nil {
		return nil, err
	}
	return p, p.io.started()
}

// pidfdOf returns a descriptor of the process that executed the program, one that can be waited for by polling. The
// child's own is that of the process that was made first, which may have handed over, and blocks.
func pidfdOf(child *script.Child) (*os.File, error) {
	_ = child.PidFD.Close()
	fd, err := unix.PidfdOpen(child.Pid, unix.PIDFD_NONBLOCK) // our child, not reaped: the pid is its
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// end waits for the process and reports, after the last byte. What still holds its outputs open is read for nobody,
// until the container ends.
func (p *process) end(c *container) {
	exit := protocol.ExitReport{Status: c.reaper.wait(p.pid, p.pidfd), At: time.Now()}
	p.io.readers.hurry()
	p.io.drain()
	p.io.readers.finish(exit)
	p.io.endInput()
	_ = p.pidfd.Close()
	go func() {
		p.io.linger(c.ended)
		p.io.close()
	}()
}
