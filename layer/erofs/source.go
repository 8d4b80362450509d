package erofs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
)

const (
	blockSize  = 512     // of tar and of our EROFS images
	bufferSize = 1 << 20 // bytes read, hashed and written at a time
	buffers    = 3       // one is filled, one is parsed, one is hashed and written
)

// source is the tar as it streams by: it is read in large pieces, parsed here, and each piece is
// hashed and (by Write) copied into the layer file by a second goroutine at the same time.
//
// A buffer has room for blockSize bytes in front of what is read into it: what was left of the buffer
// before, less than a block.
type source struct {
	ctx  context.Context
	r    io.Reader
	max  int64  // bytes that the tar may have
	rest []byte // read, not yet parsed
	off  int64  // in the tar, of rest
	read int64  // bytes read from r
	eof  bool

	free chan []byte
	made int // buffers
	full chan piece
	done chan error
	hash hash.Hash
	file *os.File // nil: hash only
	lost error    // what the second goroutine ended with, once it is known
}

// piece is a part of the tar on its way to the hash and the file.
type piece struct {
	whole []byte // the buffer, to be given back
	data  []byte
	off   int64 // in the layer file
}

func newSource(ctx context.Context, r io.Reader, file *os.File, max int64) *source {
	s := &source{
		ctx: ctx, r: r, max: max, file: file, hash: sha256.New(),
		free: make(chan []byte, buffers), full: make(chan piece, buffers), done: make(chan error, 1),
	}
	go s.drain()
	return s
}

// drain hashes and writes the pieces, until there are no more or one can't be written. Then it goes on
// giving buffers back, so that fill never waits for ever.
func (s *source) drain() {
	var failed error
	for p := range s.full {
		if failed == nil {
			s.hash.Write(p.data)
			if s.file != nil {
				if _, err := s.file.WriteAt(p.data, p.off); err != nil {
					failed = fmt.Errorf("write the layer file: %w", err)
					s.done <- failed
				}
			}
		}
		s.free <- p.whole
	}
	if failed == nil {
		s.done <- nil
	}
}

// close waits for the second goroutine and says whether all is written. fill is not called after it.
func (s *source) close() error {
	close(s.full)
	if s.lost != nil {
		return s.lost
	}
	s.lost = <-s.done
	return s.lost
}

// digest is the tar's, after close.
func (s *source) digest() digest.Digest { return digest.NewDigest(digest.SHA256, s.hash) }

// fill reads the next buffer; what is left of the last one (less than a block) goes in front of it.
func (s *source) fill() error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	select {
	case s.lost = <-s.done:
		return s.lost
	default:
	}
	buf := s.buffer()
	start := blockSize - len(s.rest)
	copy(buf[start:], s.rest) // before anything is read: it can be the buffer that rest is in
	n := 0
	var err error
	for n < bufferSize && err == nil {
		var m int
		m, err = s.r.Read(buf[blockSize+n : blockSize+bufferSize])
		n += m
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.free <- buf
		return fmt.Errorf("read the layer's tar: %w", err)
	}
	s.eof = err != nil
	s.rest = buf[start : blockSize+n]
	if n == 0 {
		s.free <- buf
		return nil
	}
	s.full <- piece{whole: buf, data: buf[blockSize : blockSize+n], off: headerSize + s.read}
	s.read += int64(n)
	if s.read > s.max {
		return &LimitError{Limit: "Tar", Max: s.max, what: "bytes"}
	}
	return nil
}

// buffer takes a buffer that is free: small tars need only one.
func (s *source) buffer() []byte {
	select {
	case buf := <-s.free:
		return buf
	default:
	}
	if s.made < buffers {
		s.made++
		return make([]byte, blockSize+bufferSize)
	}
	return <-s.free
}

// next returns the next n bytes, at most a block; fewer at the end. They are valid until the next call.
func (s *source) next(n int) ([]byte, error) {
	for len(s.rest) < n && !s.eof {
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
	n = min(n, len(s.rest))
	b := s.rest[:n]
	s.rest = s.rest[n:]
	s.off += int64(n)
	return b, nil
}

// skip passes over n bytes and returns how many there were.
func (s *source) skip(n int64) (int64, error) {
	left := n
	for left > 0 {
		if len(s.rest) == 0 {
			if s.eof {
				break
			}
			if err := s.fill(); err != nil {
				return n - left, err
			}
			continue
		}
		k := min(left, int64(len(s.rest)))
		s.rest = s.rest[k:]
		s.off += k
		left -= k
	}
	return n - left, nil
}

// readAll appends the next n bytes to b.
func (s *source) readAll(b []byte, n int64) ([]byte, error) {
	for n > 0 {
		part, err := s.next(int(min(n, blockSize)))
		if err != nil {
			return b, err
		}
		if len(part) == 0 {
			return b, io.ErrUnexpectedEOF
		}
		b = append(b, part...)
		n -= int64(len(part))
	}
	return b, nil
}

// toEnd passes over what follows the tar's end: it belongs to the layer's bytes all the same.
func (s *source) toEnd() error {
	for !s.eof {
		s.off += int64(len(s.rest))
		s.rest = nil
		if err := s.fill(); err != nil {
			return err
		}
	}
	s.off += int64(len(s.rest))
	s.rest = nil
	return nil
}
