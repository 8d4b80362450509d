package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/frame"
	"github.com/berth-engine/berth/internal/jsonlog"
	"github.com/berth-engine/berth/runtime/protocol"
)

// stdio is our side of a process's standard input and output.
type stdio struct {
	readers   readers
	outputs   []*output
	keepInput bool // a stream's end of stdin is none of the process's

	mu     sync.Mutex
	input  *os.File // guarded by mu; nil: none, or closed
	master *os.File // the terminal's; nil: there is none
	slave  *os.File // keeps the terminal from hanging up between two processes of the container

	child   [3]*os.File // the process's side, until it was started
	console *os.File    // where its terminal's master comes from
	theirs  *os.File    // the other end, for the start script
}

// output is one stream of a process.
type output struct {
	io   *stdio
	kind protocol.Kind
	file *os.File
	raw  syscall.RawConn
	log  *jsonlog.Stream // nil: not logged
	done chan struct{}   // closed when a pump has ended
	eof  bool            // there is no writer left; of the pump, then of who saw done
}

// newStdio makes the pipes, or the connection that a terminal comes by. owner is the user of the process, as the
// host numbers it: /dev/stdout can be opened by its owner only.
func newStdio(terminal bool, stdin protocol.StdinMode, owner int) (_ *stdio, err error) {
	s := &stdio{keepInput: stdin == protocol.StdinOpen || terminal}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if terminal {
		s.console, s.theirs, err = protocol.Pair()
		return s, err
	}
	if stdin == protocol.StdinNone {
		if s.child[0], err = os.Open(os.DevNull); err != nil {
			return nil, err
		}
	} else if s.child[0], s.input, err = pipe(owner, 1); err != nil {
		return nil, err
	}
	for i, kind := range []protocol.Kind{protocol.Stdout, protocol.Stderr} {
		var ours *os.File
		if ours, s.child[i+1], err = pipe(owner, 0); err != nil {
			return nil, err
		}
		if err := s.addOutput(kind, ours); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// pipe makes a pipe whose end number ours (0 reads, 1 writes) does not block.
func pipe(owner, ours int) (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	err = unix.SetNonblock(p[ours], true)
	if owner != 0 {
		err = errors.Join(err, unix.Fchown(p[0], owner, -1))
	}
	r, w = os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe")
	if err != nil {
		return nil, nil, errors.Join(err, r.Close(), w.Close())
	}
	return r, w, nil
}

func (s *stdio) addOutput(kind protocol.Kind, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	s.outputs = append(s.outputs, &output{io: s, kind: kind, file: f, raw: raw})
	return nil
}

// started closes the process's side and takes the terminal, if there is one.
func (s *stdio) started() error {
	for i, f := range s.child {
		if f != nil {
			_ = f.Close()
			s.child[i] = nil
		}
	}
	if s.console == nil {
		return nil
	}
	_ = s.theirs.Close()
	defer s.console.Close()
	fd, err := receiveDescriptor(s.console)
	if err != nil {
		return fmt.Errorf("the terminal of the process: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return err
	}
	s.master = os.NewFile(uintptr(fd), "/dev/ptmx")
	s.input = s.master
	peer, err := ioctlPeer(fd)
	if err != nil {
		return fmt.Errorf("the other side of the process's terminal: %w", err)
	}
	s.slave = os.NewFile(uintptr(peer), "pts")
	return s.addOutput(protocol.Stdout, s.master)
}

// receiveDescriptor takes the descriptor that lies ready in a socket.
func receiveDescriptor(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	var buf [64]byte
	var oob [32]byte
	var oobn int
	e := raw.Control(func(s uintptr) {
		_, oobn, _, _, err = unix.Recvmsg(int(s), buf[:], oob[:], unix.MSG_CMSG_CLOEXEC)
	})
	if err = errors.Join(e, os.NewSyscallError("recvmsg", err)); err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return -1, err
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, errors.New("no descriptor was sent")
}

// ioctlPeer opens the slave of a terminal, not as our controlling one.
func ioctlPeer(master int) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// pump starts reading the outputs. log may be nil.
func (s *stdio) pump(log *jsonlog.Writer) {
	for _, o := range s.outputs {
		if log != nil {
			name := "stdout"
			if o.kind == protocol.Stderr {
				name = "stderr"
			}
			o.log = log.Stream(name)
		}
		o.start()
	}
}

func (o *output) start() {
	o.done = make(chan struct{})
	go o.pump()
}

// pump reads until there is no writer left, or until the deadline that drain sets; then it takes what lies in the
// pipe, without waiting.
func (o *output) pump() {
	defer close(o.done)
	for wait := true; ; {
		buf, n, err := o.read(wait)
		if n > 0 {
			o.take(buf, n)
		}
		buffers.put(buf)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && wait:
			wait = false
		default:
			o.eof = errors.Is(err, io.EOF)
			return
		}
	}
}

// read reads into a buffer that it takes only when there is something to read. io.EOF: there is no writer left.
func (o *output) read(wait bool) (buf []byte, n int, err error) {
	try := func(fd uintptr) bool {
		buf = buffers.get()
		for {
			n, err = unix.Read(int(fd), buf[frame.HeaderSize:])
			if err != unix.EINTR {
				break
			}
		}
		if err == unix.EAGAIN && wait {
			buffers.put(buf)
			buf = nil
			return false
		}
		return true
	}
	var e error
	if wait {
		e = o.raw.Read(try)
	} else {
		e = o.raw.Control(func(fd uintptr) { try(fd) })
	}
	switch {
	case e != nil:
		return buf, 0, e
	case err == unix.EIO || err == nil && n == 0: // EIO: the terminal has no other side
		return buf, 0, io.EOF
	case err != nil:
		return buf, 0, err
	}
	return buf, n, nil
}

// take gives n bytes that were read to the log and to whoever is attached. buf has room for a header before them.
func (o *output) take(buf []byte, n int) {
	if o.log != nil {
		_, _ = o.log.Write(buf[frame.HeaderSize : frame.HeaderSize+n]) // never fails
	}
	frame.PutHeader(buf, o.kind, n)
	o.io.readers.write(o.kind, buf[:frame.HeaderSize+n])
}

// drain makes the pumps take what was written so far, and ends them.
func (s *stdio) drain() {
	for _, o := range s.outputs {
		_ = o.file.SetReadDeadline(longAgo)
	}
	for _, o := range s.outputs {
		<-o.done
		if o.log != nil {
			o.log.Close()
		}
	}
}

// linger goes on reading, for nobody, while something still holds the outputs open: closing them would kill it with
// SIGPIPE. It returns when nothing does, or at the end. A terminal is not held: it hangs up, as terminals do.
func (s *stdio) linger(end <-chan struct{}) {
	if s.master != nil {
		return
	}
	for _, o := range s.outputs {
		if o.eof {
			continue
		}
		if err := o.file.SetReadDeadline(never); err != nil {
			continue
		}
		o.start()
	}
	for _, o := range s.outputs {
		select {
		case <-o.done:
		case <-end:
			return
		}
	}
}

// write gives p to the process's stdin and waits until it is taken. What comes after the end is dropped.
func (s *stdio) write(p []byte) {
	s.mu.Lock()
	in := s.input
	s.mu.Unlock()
	if in != nil {
		_, _ = in.Write(p) // a process that does not read any more is no error of the writer
	}
}

// closeInput is the end of a stream's stdin.
func (s *stdio) closeInput() {
	if !s.keepInput {
		s.endInput()
	}
}

// endInput is the end of the process's stdin.
func (s *stdio) endInput() {
	s.mu.Lock()
	in := s.input
	s.input = nil
	s.mu.Unlock()
	if in != nil && in != s.master {
		_ = in.Close()
	}
}

// open tells whether stdin can be written.
func (s *stdio) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.input != nil
}

// resize sets the terminal's size.
func (s *stdio) resize(size protocol.Size) error {
	if s.master == nil {
		return errNoTerminal
	}
	raw, err := s.master.SyscallConn()
	if err != nil {
		return err
	}
	e := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
	})
	return errors.Join(e, os.NewSyscallError("TIOCSWINSZ", err))
}

var errNoTerminal = errors.New("the process has no terminal")

// close closes everything.
func (s *stdio) close() {
	s.endInput()
	for _, o := range s.outputs {
		_ = o.file.Close()
	}
	for _, f := range []*os.File{s.child[0], s.child[1], s.child[2], s.console, s.theirs, s.slave} {
		if f != nil {
			_ = f.Close()
		}
	}
}
