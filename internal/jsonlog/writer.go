package jsonlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// maxLine is where longer lines are cut, in bytes (Docker: daemon/logger/copier.go).
const maxLine = 16 << 10

// batch is how much is collected before it is written to the file, in bytes.
const batch = 32 << 10

// WriteOptions bound a log. Zero values are the defaults.
type WriteOptions struct {
	MaxSize  int64 // bytes in one file; < 0: no bound
	MaxFiles int   // files, the current one included
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Writer writes one log. Its streams may be written by several goroutines.
type Writer struct {
	path     string
	maxSize  int64
	maxFiles int
	now      func() time.Time

	mu      sync.Mutex
	file    *os.File // guarded by mu
	size    int64    // of whole lines in file, in bytes; guarded by mu
	out     []byte   // whole lines that wait for the end of a Write; guarded by mu
	dropped int64    // lines lost in all; guarded by mu
	unsaid  int64    // lines lost since the log last said so; guarded by mu
	cause   error    // why; guarded by mu
}

// NewWriter opens the log at path and goes on at its end.
func NewWriter(path string, opts WriteOptions) (*Writer, error) {
	w := &Writer{path: path, maxSize: opts.MaxSize, maxFiles: opts.MaxFiles, now: opts.Now}
	if w.maxSize == 0 {
		w.maxSize = DefaultMaxSize
	}
	if w.maxFiles <= 0 {
		w.maxFiles = DefaultMaxFiles
	}
	if w.now == nil {
		w.now = time.Now
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if w.size, err = mend(f); err != nil {
		return nil, errors.Join(fmt.Errorf("open log %s: %w", path, err), f.Close())
	}
	if isAt(f, w.name(1)) { // a rotation was interrupted
		_ = os.Remove(w.name(1))
	}
	w.file = f
	return w, nil
}

// mend ends a line that power loss or a kill left torn, so that it does not spoil the next, and returns the size.
func mend(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return 0, err
	}
	if last[0] == '\n' {
		return info.Size(), nil
	}
	n, _ := f.WriteString("\n") // a full disk: the reader skips what it cannot read
	return info.Size() + int64(n), nil
}

// Stream returns a writer for one of the streams ("stdout", "stderr").
func (w *Writer) Stream(name string) *Stream { return &Stream{w: w, name: name} }

// End returns how many bytes the current file has and how many lines were lost.
func (w *Writer) End() (offset, dropped int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size, w.dropped
}

// Close closes the file. The streams must have been closed before.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.file.Close()
}

// Stream cuts output into lines and writes them. It is used by one goroutine.
type Stream struct {
	w       *Writer
	name    string
	rest    []byte // the unfinished line
	stamp   []byte // its first part's time
	partial bool   // a part of the line was written already
}

// Write takes output. It never fails and never waits for space: what cannot be written is counted.
func (s *Stream) Write(p []byte) (int, error) {
	n := len(p)
	if n == 0 {
		return 0, nil
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	var buf [40]byte
	now := appendTime(buf[:0], s.w.now())
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		line := p
		if i >= 0 {
			line = p[:i]
		}
		s.part(line, i >= 0, now)
		p = p[len(line):]
		if i >= 0 {
			p = p[1:]
		}
	}
	s.w.flush()
	return n, nil
}

// part takes the next piece of a line, to its end if whole.
func (s *Stream) part(p []byte, whole bool, now []byte) {
	for len(s.rest)+len(p) >= maxLine {
		take := maxLine - len(s.rest)
		s.rest = append(s.rest, p[:take]...)
		p = p[take:]
		cut := cutAt(s.rest)
		s.line(s.rest[:cut], false, now)
		s.rest = append(s.rest[:0], s.rest[cut:]...)
	}
	if !whole {
		s.rest = append(s.rest, p...)
		return
	}
	if len(s.rest) > 0 {
		p = append(s.rest, p...)
	}
	s.line(p, true, now)
	s.rest = s.rest[:0]
	s.partial = false
	if cap(s.rest) > 1<<10 {
		s.rest = nil
	}
}

// line writes one entry. All parts of a line have the time of the first.
func (s *Stream) line(p []byte, whole bool, now []byte) {
	if !s.partial && !whole {
		s.stamp = append(s.stamp[:0], now...)
	}
	stamp := now
	if s.partial {
		stamp = s.stamp
	}
	s.partial = !whole
	s.w.add(p, whole, s.name, stamp)
}

// cutAt returns where to cut p so that no character is torn.
func cutAt(p []byte) int {
	for i := 1; i < utf8.UTFMax && i < len(p); i++ {
		c := p[len(p)-i]
		if utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(p[len(p)-i:]) {
				return len(p) - i
			}
			break
		}
	}
	return len(p)
}

// Close writes the unfinished line, if there is one.
func (s *Stream) Close() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if len(s.rest) > 0 {
		s.line(s.rest, false, appendTime(nil, s.w.now()))
		s.rest = nil
	}
	s.w.flush()
}

// add puts a line among those that wait. mu must be held.
func (w *Writer) add(line []byte, whole bool, stream string, stamp []byte) {
	w.out = appendLine(w.out, line, whole, stream, stamp)
	if len(w.out) >= batch {
		w.flush()
	}
}

// flush writes the lines that wait, in as few calls as the bounds of the files allow. mu must be held.
func (w *Writer) flush() {
	lines := w.out
	if len(lines) > 0 && w.unsaid > 0 && !w.confess() {
		w.drop(lines, w.cause)
		lines = nil
	}
	for len(lines) > 0 {
		n := w.fitting(lines)
		if n == 0 {
			if err := w.rotate(); err != nil {
				w.drop(lines, err)
				break
			}
			continue
		}
		w.append(lines[:n])
		lines = lines[n:]
	}
	if cap(w.out) > 2*batch {
		w.out = nil
	}
	w.out = w.out[:0]
}

// fitting returns how many bytes of lines, in whole lines, the current file still takes. An empty file takes a line
// of any length. mu must be held.
func (w *Writer) fitting(lines []byte) int {
	room := w.maxSize - w.size
	switch {
	case w.maxSize < 0 || int64(len(lines)) <= room:
		return len(lines)
	case w.size == 0:
		return max(bytes.LastIndexByte(lines[:room], '\n'), bytes.IndexByte(lines, '\n')) + 1
	case room <= 0:
		return 0
	}
	return bytes.LastIndexByte(lines[:room], '\n') + 1
}

// append writes whole lines to the file. What the disk does not take is cut off again and counted. mu must be held.
func (w *Writer) append(lines []byte) bool {
	n, err := w.file.Write(lines)
	if err == nil {
		w.size += int64(n)
		return true
	}
	whole := bytes.LastIndexByte(lines[:n], '\n') + 1
	w.size += int64(whole)
	if n > whole {
		_ = w.file.Truncate(w.size) // if even that fails, the reader skips the torn line
	}
	w.drop(lines[whole:], err)
	return false
}

// drop counts lines that are lost. mu must be held.
func (w *Writer) drop(lines []byte, cause error) {
	n := int64(bytes.Count(lines, []byte{'\n'}))
	w.dropped += n
	w.unsaid += n
	w.cause = cause
}

// confess says in the log that lines are missing, now that there may be space again; false: there is none. mu must be
// held.
func (w *Writer) confess() bool {
	n, cause := w.unsaid, w.cause
	var perr *os.PathError
	if errors.As(cause, &perr) {
		cause = perr.Err
	}
	text := fmt.Appendf(nil, "[%d lines of output were lost here: %v]", n, cause)
	line := appendLine(nil, text, true, "stderr", appendTime(nil, w.now()))
	w.unsaid = 0
	if w.append(line) {
		return true
	}
	w.dropped-- // the confession was no line of output
	w.unsaid = n
	return false
}

// rotate makes the current file PATH.1, PATH.1 PATH.2 and so on, and begins a new one. There is a file PATH at every
// moment (readers count on it), and whatever fails, there is a current file afterwards. mu must be held.
func (w *Writer) rotate() error {
	next, err := os.OpenFile(w.path+".new", os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	if err := w.shift(next.Name()); err != nil {
		return errors.Join(fmt.Errorf("rotate log: %w", err), next.Close(), os.Remove(next.Name()))
	}
	_ = w.file.Close() // whole lines, written: nothing that close could report matters
	w.file, w.size = next, 0
	return nil
}

// shift gives every file the next number, and the new one the current name. mu must be held.
func (w *Writer) shift(next string) error {
	for i := w.maxFiles - 2; i > 0; i-- {
		if err := os.Rename(w.name(i), w.name(i+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if w.maxFiles > 1 {
		if err := os.Remove(w.name(1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Link(w.path, w.name(1)); err != nil {
			return err
		}
	}
	return os.Rename(next, w.path)
}

func (w *Writer) name(i int) string { return fileName(w.path, i) }

// fileName returns the name of the i-th file of a log, 0 being the current one.
func fileName(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

var _ io.Writer = (*Stream)(nil)
