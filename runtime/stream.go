package runtime

import (
	"errors"
	"io"
	"sync"

	"github.com/berth-engine/berth/runtime/protocol"
)

// AttachOptions say what a stream carries.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	// DropWhenSlow ends the stream (ErrSlow) when its reader falls more than 256 KiB behind. Without, as in
	// Docker, the container's writes wait for a reader that is attached and slow; never for one that is gone.
	DropWhenSlow bool
}

func (o *AttachOptions) request() protocol.AttachRequest { return protocol.AttachRequest(*o) }

// Kind says which stream a piece of output belongs to. The values are those of Docker's multiplexed streams.
type Kind byte

const (
	Stdout Kind = 1
	Stderr Kind = 2
)

// Stream is an attachment to a process: its input one way, its output and its exit the other.
// Write, CloseWrite, Resize and Close may be used beside Next.
type Stream struct {
	conn *protocol.Conn
	stay bool // Close leaves the connection until the process has ended (exec: its exit comes on it)

	pieces   chan piece
	taken    chan struct{} // the piece is done with
	has      bool          // a piece is out; of the goroutine that calls Next
	closing  sync.Once
	detached chan struct{} // closed by Close
	ended    chan struct{} // closed when exit and err are set
	exit     Exit
	err      error // io.EOF where exit is known
}

type piece struct {
	kind Kind
	data []byte
}

// newStream returns the stream on conn, which it closes at the end.
func newStream(conn *protocol.Conn, stay bool) *Stream {
	s := &Stream{conn: conn, stay: stay, pieces: make(chan piece), taken: make(chan struct{}), detached: make(chan struct{}), ended: make(chan struct{})}
	go s.read()
	return s
}

// read receives until the process has ended or the connection has, and hands output over piece by piece.
func (s *Stream) read() {
	defer close(s.ended)
	defer s.conn.Close()
	for {
		m, err := s.conn.Recv()
		if err != nil {
			s.err = ErrLost
			return
		}
		m.Close()
		switch m.Kind {
		case protocol.Stdout:
			s.hand(piece{Stdout, m.Payload})
		case protocol.Stderr:
			s.hand(piece{Stderr, m.Payload})
		case protocol.Slow:
			s.err = ErrSlow
			return
		case protocol.Exit:
			var r protocol.ExitReport
			if s.err = m.Decode(&r); s.err == nil {
				s.exit, s.err = exitOf(r), io.EOF
			}
			return
		}
	}
}

// hand waits until the piece was taken and is done with. After Close nobody takes it.
func (s *Stream) hand(p piece) {
	select {
	case s.pieces <- p:
		select {
		case <-s.taken:
		case <-s.detached:
		}
	case <-s.detached:
	}
}

// Next returns the next piece of output, valid until the next call. With a terminal everything is Stdout.
// After the last byte the error is io.EOF, and Exit tells the status; ErrSlow when the stream was dropped, ErrLost
// when the shim was, ErrDetached after Close.
func (s *Stream) Next() (Kind, []byte, error) {
	if s.has {
		s.has = false
		select {
		case s.taken <- struct{}{}:
		case <-s.detached:
		}
	}
	select {
	case p := <-s.pieces:
		s.has = true
		return p.kind, p.data, nil
	case <-s.detached:
		return 0, nil, ErrDetached
	case <-s.ended:
		return 0, nil, s.err
	}
}

// Exit returns how the process ended, after Next returned io.EOF.
func (s *Stream) Exit() Exit {
	select {
	case <-s.ended:
		return s.exit
	default:
		return Exit{}
	}
}

// Copy writes all output to stdout and stderr (nil: dropped) until the process ends. The error is that of Next, or of
// the writer that failed; then the stream can still be read.
func (s *Stream) Copy(stdout, stderr io.Writer) (Exit, error) {
	for {
		kind, data, err := s.Next()
		if errors.Is(err, io.EOF) {
			return s.Exit(), nil
		}
		if err != nil {
			return Exit{}, err
		}
		w := stdout
		if kind == Stderr {
			w = stderr
		}
		if w == nil {
			continue
		}
		if _, err := w.Write(data); err != nil {
			return Exit{}, err
		}
	}
}

// stdinChunk is how much goes into one message, in bytes.
const stdinChunk = 32 << 10

// Write sends stdin. It waits while the process does not read.
func (s *Stream) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n := min(len(p)-done, stdinChunk)
		if err := s.conn.Send(protocol.Stdin, p[done:done+n]); err != nil {
			return done, s.closed(err)
		}
		done += n
	}
	return len(p), nil
}

// closed is err, or what it means that the connection is closed.
func (s *Stream) closed(err error) error {
	select {
	case <-s.ended:
		return io.ErrClosedPipe
	case <-s.detached:
		return ErrDetached
	default:
		return err
	}
}

// CloseWrite is the end of stdin (see Stdin for what it means to the process). Without it, the end of the
// stream, or of the engine, is no end of the process's stdin.
func (s *Stream) CloseWrite() error {
	if err := s.conn.Send(protocol.CloseStdin, nil); err != nil {
		return s.closed(err)
	}
	return nil
}

// Resize sets the terminal's size.
func (s *Stream) Resize(size Size) error {
	if err := s.conn.Send(protocol.Resize, protocol.Size(size)); err != nil {
		return s.closed(err)
	}
	return nil
}

// Close detaches. The process runs on.
func (s *Stream) Close() error {
	var err error
	s.closing.Do(func() {
		close(s.detached)
		if s.stay {
			return
		}
		if e := s.conn.Close(); e != nil && !errors.Is(e, io.ErrClosedPipe) && !isClosed(e) {
			err = e
		}
		<-s.ended
	})
	return err
}
