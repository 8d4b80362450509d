package jsonlog

import (
	"context"
	"errors"
	"time"
)

// DefaultMaxSize and DefaultMaxFiles bound a log for which nothing else was said: 5 files of 20 MiB.
const (
	DefaultMaxSize  = 20 << 20
	DefaultMaxFiles = 5
)

// Entry is one line of the log.
type Entry struct {
	Line   []byte // with its newline, unless it is a part of a longer line or the output's unfinished end
	Stream string // "stdout" or "stderr"
	Time   time.Time
}

// ReadOptions choose what a Reader returns.
type ReadOptions struct {
	Stdout, Stderr bool
	Since, Until   time.Time       // zero: no bound; Since is inclusive, so is Until
	Tail           int             // the last n lines (of those chosen); < 0: all
	Follow         bool            // wait for more until Ended or Until
	Ended          <-chan struct{} // closed when the container has ended: a following Reader then reads what is there and ends
}

// Reader reads a log across its rotated files, oldest line first.
type Reader struct{}

// NewReader opens the log at path. A log that does not exist (yet) is empty.
func NewReader(path string, opts ReadOptions) (*Reader, error) {
	return nil, errors.New("not built yet")
}

// Next returns the next entry, valid until the next call; io.EOF at the end; the context's error when it ends.
func (r *Reader) Next(ctx context.Context) (Entry, error) {
	return Entry{}, errors.New("not built yet")
}

// Close closes the files.
func (r *Reader) Close() error { return nil }
