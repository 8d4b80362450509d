package shim

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/protocol"
)

// serve tells the engine that the container runs, does what it is asked until the container has ended, and returns
// when the end was reported.
func (c *container) serve(launch *protocol.Conn) {
	c.work.Go(func() { c.watchLaunch(launch) })
	go c.accept()
	c.end()
	c.work.Wait()
}

// watchLaunch says on the launch connection what it waits for.
func (c *container) watchLaunch(conn *protocol.Conn) {
	if err := conn.Send(protocol.Started, protocol.StartedReply{Pid: c.pid, At: c.record.Started}); err != nil {
		return
	}
	c.reportExit(conn)
}

// reportExit says how the container ended, when it has.
func (c *container) reportExit(conn *protocol.Conn) {
	<-c.ended
	_ = conn.Send(protocol.Exit, c.exit) // without an engine, the record says it
}

// accept takes connections until the socket is closed.
func (c *container) accept() {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return
	}
	for {
		f, err := acceptOne(raw)
		if err != nil {
			return
		}
		conn, err := protocol.NewConn(f, protocol.Shim, protocol.Open)
		if err != nil {
			_ = f.Close()
			continue
		}
		go c.converse(conn)
	}
}

// scarcity is how long nothing is accepted when there were no descriptors left.
const scarcity = 50 * time.Millisecond

// acceptOne returns the next connection; an error only when the socket is closed.
func acceptOne(raw syscall.RawConn) (*os.File, error) {
	for {
		var fd int
		var err error
		e := raw.Read(func(s uintptr) bool {
			fd, _, err = unix.Accept4(int(s), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return err != unix.EAGAIN
		})
		if e != nil {
			return nil, e
		}
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), "connection"), nil
		case unix.EBADF, unix.EINVAL:
			return nil, err
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			time.Sleep(scarcity) // the connection still waits: asking at once would be asking for ever
		}
		// A connection that was given up meanwhile, or something is scarce: the next one may do better.
	}
}

// converse answers one connection.
func (c *container) converse(conn *protocol.Conn) {
	defer conn.Close()
	for {
		m, err := conn.Recv()
		if err != nil {
			return
		}
		err = c.answer(conn, m)
		m.Close()
		if err != nil {
			return
		}
	}
}

// errTaken ends the reading of a connection by converse.
var errTaken = errors.New("this connection is a stream now")

func (c *container) answer(conn *protocol.Conn, m protocol.Message) error {
	switch m.Kind {
	case protocol.Ask:
		return conn.Send(protocol.Status, c.state())
	case protocol.Watch:
		if err := conn.Send(protocol.Status, c.state()); err != nil {
			return err
		}
		if c.begin() {
			defer c.work.Done()
		}
		c.reportExit(conn)
		return errTaken
	case protocol.Rootfs:
		if !c.begin() { // its descriptor is closed at the end
			return conn.Send(protocol.Failed, failure(errEnded))
		}
		defer c.work.Done()
		if c.root == nil {
			return conn.Send(protocol.Failed, protocol.Failure{Detail: "the root directory was not given as a descriptor"})
		}
		return conn.Send(protocol.Done, nil, c.root)
	case protocol.Signal:
		var r protocol.SignalRequest
		return c.reply(conn, m.Decode(&r), func() error { return c.signal(r) })
	case protocol.Resize:
		var size protocol.Size
		return c.reply(conn, m.Decode(&size), func() error { return c.io.resize(size) })
	case protocol.Attach:
		c.attach(conn, m)
		return errTaken
	case protocol.Exec:
		c.exec(conn, m)
		return errTaken
	}
	return errTaken // the table has nothing else
}

// reply does what was asked and answers. The shim stays until the answer is out, also when what was
// asked is what ends the container.
func (c *container) reply(conn *protocol.Conn, err error, do func() error) error {
	if !c.begin() {
		return conn.Send(protocol.Failed, failure(errEnded))
	}
	defer c.work.Done()
	if err == nil {
		err = do()
	}
	if err != nil {
		return conn.Send(protocol.Failed, failure(err))
	}
	return conn.Send(protocol.Done, nil)
}

func (c *container) state() protocol.State {
	s := protocol.State{Version: protocol.Version, ID: c.id, Pid: c.pid, Started: c.record.Started, Cgroup: c.group.Name(),
		Terminal: c.spec.Process.Terminal, OpenStdin: c.io.open()}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Execs = c.execs
	if c.hasEnded() {
		exit := c.exit
		s.Pid, s.Exited = 0, &exit
	}
	return s
}

func (c *container) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

func (c *container) signal(r protocol.SignalRequest) error {
	if r.All {
		return c.group.signal(c.ctx, unix.Signal(r.Signal))
	}
	err := signalTo(c.pidfd, unix.Signal(r.Signal))
	if err == nil && unix.Signal(r.Signal) == unix.SIGKILL {
		c.group.release(c.ctx)
	}
	return err
}

// signalTo signals the process that pidfd refers to, and no other that may have its pid by now.
func signalTo(pidfd *os.File, sig unix.Signal) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	e := raw.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	switch {
	case e != nil || errors.Is(err, unix.ESRCH):
		return errEnded
	case err != nil:
		return os.NewSyscallError("send a signal", err)
	}
	return nil
}

// attachFirst attaches the stream that came with the request to start.
func (c *container) attachFirst(f *os.File, opts *protocol.AttachRequest) error {
	if opts == nil {
		opts = &protocol.AttachRequest{}
	}
	conn, err := protocol.NewConn(f, protocol.Shim, protocol.Streaming)
	if err != nil {
		return err
	}
	a := newReader(conn, *opts)
	c.io.readers.add(a)
	c.follow(a)
	go func() {
		defer conn.Close()
		c.io.listen(a, nil)
	}()
	return nil
}

// attach makes the connection a stream of the container. Whatever is written after the answer is on it.
func (c *container) attach(conn *protocol.Conn, m protocol.Message) {
	var opts protocol.AttachRequest
	err := m.Decode(&opts)
	if err == nil && c.hasEnded() {
		err = errEnded
	}
	if err != nil {
		_ = conn.Send(protocol.Failed, failure(err))
		return
	}
	a := newReader(conn, opts)
	if err := a.greet(); err != nil {
		return
	}
	c.mu.Lock()
	ended := c.hasEnded()
	if !ended {
		c.io.readers.add(a)
		c.follow(a)
	}
	c.mu.Unlock()
	if ended {
		a.last(protocol.Exit, c.exit)
	}
	c.io.listen(a, nil)
}

// begin holds up the end of the shim until c.work.Done is called. It does not once the container has ended.
func (c *container) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hasEnded() {
		return false
	}
	c.work.Add(1)
	return true
}

// follow lets the end wait until all was delivered to a.
func (c *container) follow(a *reader) { c.work.Go(func() { <-a.gone }) }

// listen takes what the engine says on a stream, until it goes. signal is for a process that Exec started.
func (s *stdio) listen(a *reader, signal func(protocol.SignalRequest) error) {
	defer func() {
		s.readers.remove(a)
		a.leave()
	}()
	for {
		m, err := a.conn.Recv()
		if err != nil {
			return
		}
		switch m.Kind {
		case protocol.Stdin:
			if a.opts.Stdin {
				s.write(m.Payload)
			}
		case protocol.CloseStdin:
			if a.opts.Stdin {
				s.closeInput()
			}
		case protocol.Resize:
			var size protocol.Size
			if m.Decode(&size) == nil {
				_ = s.resize(size) // without a terminal there is none whose size could be wrong
			}
		case protocol.Signal:
			var r protocol.SignalRequest
			if m.Decode(&r) == nil && signal != nil {
				_ = signal(r) // it ended meanwhile: its exit is on the way
			}
		}
		m.Close()
	}
}
