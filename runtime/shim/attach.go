package shim

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/frame"
	"github.com/berth-engine/berth/runtime/protocol"
)

// backlog is how many bytes wait for a slow reader before its writer waits, or it is dropped.
const backlog = 256 << 10

// readers are the streams that are attached to a process.
type readers struct {
	mu   sync.Mutex
	list []*reader // guarded by mu; replaced, never changed
}

func (r *readers) add(a *reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(slices.Clip(r.list), a)
}

func (r *readers) remove(a *reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(slices.Clone(r.list), func(b *reader) bool { return a == b })
}

func (r *readers) all() []*reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list
}

// write gives a frame of output to all who want its kind.
func (r *readers) write(kind protocol.Kind, f []byte) {
	for _, a := range r.all() {
		if a.wants(kind) && !a.write(f) {
			r.remove(a)
		}
	}
}

// hurry lets nobody wait for a slow reader any more: what comes now is the end, and of bounded size.
func (r *readers) hurry() {
	for _, a := range r.all() {
		a.hurry()
	}
}

// finish ends every stream with how the process ended, after the last byte.
func (r *readers) finish(exit protocol.ExitReport) {
	for _, a := range r.all() {
		a.last(protocol.Exit, exit)
		r.remove(a)
	}
}

// reader is one stream that is attached. Output goes straight to its socket; what the socket does not take waits here.
type reader struct {
	conn *protocol.Conn
	opts protocol.AttachRequest
	gone chan struct{} // closed when nothing more will be written: all was delivered, or nobody is there

	mu       sync.Mutex
	room     sync.Cond // on mu: waiting has become shorter, or one of the flags changed
	waiting  []byte    // guarded by mu
	flushing bool      // a goroutine writes what waits; guarded by mu
	hurried  bool      // guarded by mu
	ended    bool      // the last frame is among what waits, or was written; guarded by mu
	closed   bool      // gone is closed; guarded by mu
}

func newReader(conn *protocol.Conn, opts protocol.AttachRequest) *reader {
	a := &reader{conn: conn, opts: opts, gone: make(chan struct{})}
	a.room.L = &a.mu
	return a
}

// greet says, before anything else, that the stream is attached.
func (a *reader) greet() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.conn.Sent(protocol.Done); err != nil {
		return err
	}
	a.put(appendFrame(nil, protocol.Done, nil))
	return nil
}

func (a *reader) wants(kind protocol.Kind) bool {
	return kind == protocol.Stdout && a.opts.Stdout || kind == protocol.Stderr && a.opts.Stderr
}

// write delivers a frame, or waits until it can. false: nobody is there.
func (a *reader) write(f []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.waiting) > backlog && !a.hurried && !a.closed {
		if a.opts.DropWhenSlow {
			a.waiting = appendFrame(a.waiting, protocol.Slow, nil)
			a.ended = true
			return false
		}
		a.room.Wait()
	}
	a.put(f)
	return !a.closed
}

// put writes f, or what of it the socket does not take, behind what waits. mu must be held.
func (a *reader) put(f []byte) {
	if a.closed || a.ended {
		return
	}
	if !a.flushing {
		n, err := a.try(f)
		if err != nil {
			a.close()
			return
		}
		f = f[n:]
	}
	if len(f) == 0 {
		return
	}
	a.waiting = append(a.waiting, f...)
	if !a.flushing {
		a.flushing = true
		go a.flush()
	}
}

// try writes as much of f as the socket takes at once.
func (a *reader) try(f []byte) (n int, err error) {
	e := a.conn.Raw().Write(func(fd uintptr) bool {
		for {
			n, err = unix.SendmsgN(int(fd), f, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
			if err != unix.EINTR {
				return true
			}
		}
	})
	if err == unix.EAGAIN {
		return 0, e
	}
	if e != nil {
		return 0, e
	}
	return n, err
}

// flush writes what waits until nothing does.
func (a *reader) flush() {
	var out []byte
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.waiting) > 0 && !a.closed {
		out, a.waiting = a.waiting, out[:0]
		a.room.Broadcast()
		a.mu.Unlock()
		_, err := a.conn.File().Write(out)
		a.mu.Lock()
		if err != nil {
			a.close()
		}
	}
	a.flushing = false
	a.waiting = nil
	if a.ended {
		a.close()
	}
	a.room.Broadcast()
}

// last ends the stream with a message.
func (a *reader) last(kind protocol.Kind, v any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put(appendFrame(nil, kind, v))
	a.ended = true
	if !a.flushing {
		a.close()
	}
}

func (a *reader) hurry() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hurried = true
	a.room.Broadcast()
}

// leave notes that nobody is there any more.
func (a *reader) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.close()
}

// close notes that nothing more will be written. The connection stays: whoever reads from it closes it. mu must be held.
func (a *reader) close() {
	if !a.closed {
		a.closed = true
		close(a.gone)
		a.room.Broadcast()
	}
}

func appendFrame(b []byte, kind protocol.Kind, v any) []byte {
	payload, err := protocol.Encode(v)
	if err != nil {
		panic(err) // the protocol's messages can all be encoded
	}
	var head [frame.HeaderSize]byte
	frame.PutHeader(head[:], kind, len(payload))
	return append(append(b, head[:]...), payload...)
}
