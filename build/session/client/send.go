package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/session"
)

// frameSize is about how many bytes of files go into one frame; settled is how long a file must not
// have changed before it was read, to be known by its times (as git does with racily clean files).
const (
	frameSize = 512 << 10
	settled   = 10 * time.Millisecond
)

func (c *Client) files(req session.FilesRequest) error {
	c.mu.Lock()
	l, ok := c.lists[req.List]
	c.mu.Unlock()
	if !ok {
		return errors.New("the engine asks for files of a list that it never got")
	}
	for _, i := range req.Want {
		if i < 0 || i >= len(l.entries) || !l.entries[i].IsReg() {
			return errors.New("the engine asks for what is no file of the list")
		}
	}
	var next atomic.Int64
	var failed atomic.Bool
	var workers sync.WaitGroup
	errs := make([]error, max(2, min(4, runtime.GOMAXPROCS(0))))
	for k := range errs {
		workers.Go(func() {
			s := sender{c: c, l: l, head: binary.AppendUvarint(nil, req.ID)}
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= len(req.Want) {
					break
				}
				if errs[k] = s.file(req.Want[i]); errs[k] != nil {
					failed.Store(true)
					return
				}
			}
			errs[k] = s.flush()
		})
	}
	workers.Wait()
	for _, err := range errs { // the first is enough: one sentence
		if err != nil {
			return err
		}
	}
	return nil
}

// sender sends files, small ones together in one frame.
type sender struct {
	c    *Client
	l    listed
	head []byte
	buf  []byte
}

func (s *sender) flush() error {
	if len(s.buf) <= len(s.head) {
		return nil
	}
	err := s.c.w.Write(session.FilesFrame, s.buf)
	s.buf = s.buf[:0]
	return err
}

var errChanged = errors.New("it changed while it was read, twice; is something still writing to it?")

// file sends one file; if it changes meanwhile, once more.
func (s *sender) file(i int) error {
	e := &s.l.entries[i]
	whole, err := s.attempt(i, e)
	if err == nil && !whole {
		whole, err = s.attempt(i, e)
		if err == nil && !whole {
			err = errChanged
		}
	}
	if err != nil {
		return fmt.Errorf("send the context: %s: %w", e.Path, err)
	}
	if s.c.opts.Sent != nil {
		s.c.opts.Sent(s.l.source, e.Size)
	}
	return nil
}

// attempt sends the file once, and says whether it was the same before and after.
func (s *sender) attempt(i int, e *session.Entry) (bool, error) {
	if err := s.c.ctx.Err(); err != nil {
		return false, err
	}
	fd, err := s.l.root.open(e.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return false, plain(err)
	}
	f := os.NewFile(uintptr(fd), e.Path)
	defer f.Close()
	var before unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		return false, err
	}
	if before.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, errors.New("it was a file and is none any more")
	}
	began := time.Now()
	p := session.Piece{Index: i, Flags: session.PieceFirst, Stat: entry(&before)}
	if p.Stat.Xattrs, err = xattrs(fd); err != nil {
		return false, err
	}
	return s.pieces(fd, &p, before, began)
}

// plain takes the path out of an error that will be named with it.
func plain(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// pieces sends the content from fd in as many pieces as it needs. Of the last the flags are known only
// after the second stat: a file that changed is not ended.
func (s *sender) pieces(fd int, p *session.Piece, before unix.Stat_t, began time.Time) (bool, error) {
	left := before.Size
	for {
		n := int(min(left, frameSize))
		if len(s.buf)+n > frameSize+4096 {
			if err := s.flush(); err != nil {
				return false, err
			}
		}
		if len(s.buf) == 0 {
			s.buf = append(s.buf, s.head...)
		}
		data, err := s.space(n, func(b []byte) (int, error) { return readFull(fd, b) })
		if err != nil {
			return false, err
		}
		left -= int64(len(data))
		short := len(data) < n
		var after unix.Stat_t
		if left == 0 || short {
			if err := unix.Fstat(fd, &after); err != nil {
				return false, err
			}
			if short || !same(&before, &after) {
				return false, nil // data is dropped, what went before is void when the file begins again
			}
			p.Flags |= session.PieceLast
			if isSettled(&after, began) {
				p.Flags |= session.PieceSettled
			}
		}
		s.append(p, len(data))
		if left == 0 {
			return true, nil
		}
		if err := s.flush(); err != nil {
			return false, err
		}
		p.Flags = 0
	}
}

// headerRoom is more than a piece's header takes, but for its xattrs.
const headerRoom = 256

// space reads n bytes into the buffer, behind room for the header.
func (s *sender) space(n int, read func([]byte) (int, error)) ([]byte, error) {
	at := len(s.buf) + headerRoom
	if cap(s.buf) < at+n {
		grown := make([]byte, len(s.buf), at+max(n, frameSize)+headerRoom)
		copy(grown, s.buf)
		s.buf = grown
	}
	b := s.buf[at : at+n]
	got, err := read(b)
	return b[:got], err
}

// append puts header and the size bytes that space read into the buffer.
func (s *sender) append(p *session.Piece, size int) {
	data := s.buf[len(s.buf)+headerRoom : len(s.buf)+headerRoom+size]
	var room [headerRoom]byte
	header := session.AppendPieceHeader(room[:0], p, size)
	if len(header) > headerRoom {
		data = append([]byte(nil), data...) // the header runs into it
	}
	s.buf = append(s.buf, header...)
	s.buf = append(s.buf, data...)
}

func readFull(fd int, b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Read(fd, b[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		if n == 0 {
			break
		}
		done += n
	}
	return done, nil
}

func same(a, b *unix.Stat_t) bool {
	return a.Size == b.Size && a.Mtim == b.Mtim && a.Ctim == b.Ctim && a.Mode == b.Mode
}

func isSettled(st *unix.Stat_t, read time.Time) bool {
	limit := read.Add(-settled)
	return time.Unix(st.Mtim.Unix()).Before(limit) && time.Unix(st.Ctim.Unix()).Before(limit)
}
