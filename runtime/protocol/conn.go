package protocol

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/frame"
)

// maxDescriptors is what one message can have beside it (SCM_MAX_FD).
const maxDescriptors = 253

// Conn is one conversation. Send may be used from several goroutines, Recv from one, and both at once.
type Conn struct {
	file *os.File
	raw  syscall.RawConn
	side Side
	in   *frame.Reader

	mu    sync.Mutex
	phase Phase // guarded by mu

	out     sync.Mutex // held while a message is sent; before mu
	pending []int      // descriptors that go with the frame being sent; guarded by out
	frames  *frame.Writer

	files []*os.File // received, not taken yet; of the goroutine that receives
	oob   []byte     // room for them; likewise
}

// NewConn returns the conversation that begins in phase on f, a stream socket that does not block. Close closes f.
func NewConn(f *os.File, side Side, phase Phase) (*Conn, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("shim connection: %w", err)
	}
	c := &Conn{file: f, raw: raw, side: side, phase: phase}
	c.in = frame.NewReader(receiver{c})
	c.frames = frame.NewWriter(sender{c})
	return c, nil
}

// File returns the socket, for deadlines.
func (c *Conn) File() *os.File { return c.file }

// Raw returns the socket for system calls.
func (c *Conn) Raw() syscall.RawConn { return c.raw }

// Phase returns how far the conversation is.
func (c *Conn) Phase() Phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase
}

func (c *Conn) advance(side Side, kind Kind) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, err := After(c.phase, side, kind)
	c.phase = next
	return err
}

// Send sends a message: v is nil, bytes, or what becomes JSON. files go with it; the caller keeps them. More files
// than fit beside one message are sent before it.
func (c *Conn) Send(kind Kind, v any, files ...*os.File) error {
	payload, err := Encode(v)
	if err != nil {
		return err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		if fds[i], err = descriptor(f); err != nil {
			return fmt.Errorf("send %s: %w", f.Name(), err)
		}
	}
	c.out.Lock()
	defer c.out.Unlock()
	for len(fds) > maxDescriptors {
		if err := c.send(Descriptors, nil, fds[:maxDescriptors]); err != nil {
			return err
		}
		fds = fds[maxDescriptors:]
	}
	err = c.send(kind, payload, fds)
	keepAlive(files)
	return err
}

// send sends one frame. out must be held.
func (c *Conn) send(kind Kind, payload []byte, fds []int) error {
	if err := c.advance(c.side, kind); err != nil {
		return err
	}
	c.pending = fds
	return c.frames.Write(kind, payload)
}

// Sent notes that a message of this kind was written to the socket by somebody else (who holds no other message back).
func (c *Conn) Sent(kind Kind) error { return c.advance(c.side, kind) }

// Message is what was received.
type Message struct {
	Kind    Kind
	Payload []byte     // valid until the next Recv
	Files   []*os.File // the receiver's to close
}

// Close closes the files that came with the message.
func (m *Message) Close() {
	for _, f := range m.Files {
		_ = f.Close()
	}
	m.Files = nil
}

// Recv returns the next message. At the end of the connection the error is io.EOF.
func (c *Conn) Recv() (Message, error) {
	other := Engine
	if c.side == Engine {
		other = Shim
	}
	for {
		kind, payload, err := c.in.Next()
		if err == nil {
			err = c.advance(other, kind)
		}
		if err != nil {
			c.drop()
			return Message{}, err
		}
		if kind == Descriptors {
			continue
		}
		m := Message{Kind: kind, Payload: payload, Files: c.files}
		c.files = nil
		return m, nil
	}
}

func (c *Conn) drop() {
	m := Message{Files: c.files}
	m.Close()
	c.files = nil
}

// Close ends the conversation.
func (c *Conn) Close() error { return c.file.Close() }

// CloseWrite tells the other side that nothing more is sent.
func (c *Conn) CloseWrite() error {
	var err error
	if e := c.raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }); e != nil {
		return e
	}
	return err
}

// receiver reads from the socket and keeps the descriptors that come along.
type receiver struct{ c *Conn }

func (r receiver) Read(p []byte) (int, error) {
	if r.c.oob == nil {
		r.c.oob = make([]byte, unix.CmsgSpace(4*maxDescriptors))
	}
	var n, oobn int
	var err error
	e := r.c.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, err = unix.Recvmsg(int(fd), p, r.c.oob, unix.MSG_CMSG_CLOEXEC)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	switch {
	case e != nil:
		return 0, e
	case err == unix.ECONNRESET:
		return 0, io.EOF // the other side went away without reading everything
	case err != nil:
		return 0, os.NewSyscallError("recvmsg", err)
	case oobn > 0:
		if err := r.c.take(r.c.oob[:oobn]); err != nil {
			return 0, err
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (c *Conn) take(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("shim protocol: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fmt.Errorf("shim protocol: %w", err)
		}
		for _, fd := range fds {
			c.files = append(c.files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return nil
}

// sender writes to the socket; the pending descriptors go with the first byte.
type sender struct{ c *Conn }

func (s sender) Write(p []byte) (int, error) {
	var oob []byte
	if len(s.c.pending) > 0 {
		oob = unix.UnixRights(s.c.pending...)
		s.c.pending = nil
	}
	done := 0
	for done < len(p) {
		var n int
		var err error
		e := s.c.raw.Write(func(fd uintptr) bool {
			for {
				n, err = unix.SendmsgN(int(fd), p[done:], oob, nil, unix.MSG_NOSIGNAL)
				if err != unix.EINTR {
					return err != unix.EAGAIN
				}
			}
		})
		if e = errors.Join(e, os.NewSyscallError("sendmsg", err)); e != nil {
			return done, e
		}
		done, oob = done+n, nil
	}
	return done, nil
}

// descriptor is f.Fd, which would make f blocking.
func descriptor(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = raw.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}
