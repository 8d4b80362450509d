package jsonlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

// wants tells whether e is among those chosen.
func (o *ReadOptions) wants(e *Entry) bool {
	switch {
	case e.Stream == "stdout" && !o.Stdout, e.Stream == "stderr" && !o.Stderr:
		return false
	case !o.Since.IsZero() && e.Time.Before(o.Since), o.after(e):
		return false
	}
	return true
}

// after tells whether e is later than everything that is chosen.
func (o *ReadOptions) after(e *Entry) bool { return !o.Until.IsZero() && e.Time.After(o.Until) }

// Reader reads a log across its rotated files, oldest line first.
type Reader struct {
	path  string
	opts  ReadOptions
	files []*os.File // oldest first; the first is being read
	pos   int64      // of the next line in it; the lines before are done
	buf   []byte     // read, from pos
	entry Entry
	watch *watch // nil: not following
}

// NewReader opens the log at path. A log that does not exist (yet) is empty.
func NewReader(path string, opts ReadOptions) (_ *Reader, err error) {
	r := &Reader{path: path, opts: opts}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("read log %s: %w", path, err), r.Close())
		}
	}()
	if opts.Follow {
		if r.watch, err = newWatch(path); err != nil {
			return nil, err
		}
	}
	if r.files, err = openAll(path); err != nil {
		return nil, err
	}
	if opts.Tail >= 0 {
		return r, r.seekTail()
	}
	return r, r.skipOld()
}

// openAll opens the files of the log, oldest first, all of one moment: where a rotation came between, it begins anew.
func openAll(path string) ([]*os.File, error) {
	for {
		names, err := fileNames(path)
		if err != nil {
			return nil, err
		}
		files := make([]*os.File, 0, len(names))
		for _, name := range names {
			f, err := os.Open(name)
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				closeAll(files)
				return nil, err
			}
			files = append(files, f)
		}
		// In the midst of a rotation a number is missing, which then is another file's: the names are
		// those of a moment in which all of them were open, and of no earlier one.
		again, err := fileNames(path)
		if err == nil && slices.Equal(again, names) && allAt(files, names) {
			return single(files), nil
		}
		closeAll(files)
		if err != nil {
			return nil, err
		}
	}
}

// fileNames returns the names of the log's files, oldest first. Numbers may be missing.
func fileNames(path string) ([]string, error) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), base)
		if ok && rest == "" {
			numbers = append(numbers, 0)
		} else if n, err := strconv.Atoi(strings.TrimPrefix(rest, ".")); ok && err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	var names []string
	for _, n := range slices.Backward(numbers) {
		names = append(names, fileName(path, n))
	}
	return names, nil
}

// allAt tells whether the files are those that have these names.
func allAt(files []*os.File, names []string) bool {
	if len(files) != len(names) {
		return false
	}
	for i, f := range files {
		if !isAt(f, names[i]) {
			return false
		}
	}
	return true
}

// single leaves out the second name of a file: for a moment of a rotation, or for good if it was interrupted, the
// current file has two.
func single(files []*os.File) []*os.File {
	last := len(files) - 1
	if last < 1 || !same(files[last-1], files[last]) {
		return files
	}
	_ = files[last-1].Close() // only read from
	return append(files[:last-1], files[last])
}

func same(f, g *os.File) bool {
	a, err1 := f.Stat()
	b, err2 := g.Stat()
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // only read from
	}
}

// isAt tells whether f is the file that has this name.
func isAt(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// skipOld leaves out files that were written for the last time before Since.
func (r *Reader) skipOld() error {
	for len(r.files) > 1 && !r.opts.Since.IsZero() {
		info, err := r.files[0].Stat()
		if err != nil {
			return err
		}
		if !info.ModTime().Before(r.opts.Since) {
			break
		}
		r.next()
	}
	return nil
}

// next goes on to the next file.
func (r *Reader) next() {
	_ = r.files[0].Close() // only read from
	r.files = r.files[1:]
	r.pos, r.buf = 0, r.buf[:0]
}

// Next returns the next entry, valid until the next call; io.EOF at the end; the context's error when it ends.
func (r *Reader) Next(ctx context.Context) (Entry, error) {
	ended := false
	for {
		line, err := r.line()
		if err != nil {
			return Entry{}, fmt.Errorf("read log %s: %w", r.path, err)
		}
		if line != nil {
			if !decode(line, &r.entry) {
				continue
			}
			if r.opts.after(&r.entry) {
				return Entry{}, io.EOF
			}
			if r.opts.wants(&r.entry) {
				return r.entry, nil
			}
			continue
		}
		switch more, err := r.more(); {
		case err != nil:
			return Entry{}, fmt.Errorf("read log %s: %w", r.path, err)
		case more:
			continue
		case !r.opts.Follow || ended:
			return Entry{}, io.EOF
		}
		if ended, err = r.wait(ctx); err != nil {
			return Entry{}, err
		}
	}
}

const readSize = 64 << 10

// line returns the next whole line of the current file without its newline, nil where there is none (yet).
func (r *Reader) line() ([]byte, error) {
	if len(r.files) == 0 {
		return nil, nil
	}
	n, err := r.whole()
	if n < 0 || err != nil {
		return nil, err
	}
	line := r.buf[:n]
	r.pos, r.buf = r.pos+int64(n)+1, r.buf[n+1:]
	return line, nil
}

// whole reads until a whole line is in buf, and returns its length; < 0: there is none (yet).
func (r *Reader) whole() (int, error) {
	for had := -1; ; {
		if n := bytes.IndexByte(r.buf, '\n'); n >= 0 || len(r.buf) <= had {
			return n, nil
		}
		had = len(r.buf)
		if err := r.fill(); err != nil {
			return -1, err
		}
	}
}

// fill reads the line that is unfinished in buf and what follows it. What was there is read again: on a full disk the
// writer cuts a torn line off, and another one comes into its place.
func (r *Reader) fill() error {
	if have := len(r.buf); cap(r.buf)-have < readSize/2 {
		r.buf = make([]byte, 0, max(readSize, 2*have))
	}
	n, err := r.files[0].ReadAt(r.buf[:cap(r.buf)], r.pos)
	r.buf = r.buf[:n]
	if err == io.EOF {
		err = nil
	}
	return err
}

// more tells, at the end of the current file, whether there is something to read all the same: the next file, one
// that the log was rotated to meanwhile, or the same one, cut off and written anew.
func (r *Reader) more() (bool, error) {
	switch {
	case len(r.files) > 1:
		r.next()
		return true, nil
	case !r.opts.Follow:
		return false, nil
	case len(r.files) == 0:
		files, err := openAll(r.path)
		r.files = files
		return len(files) > 0, err
	}
	info, err := r.files[0].Stat()
	if err != nil {
		return false, err
	}
	if info.Size() < r.pos {
		r.pos, r.buf = 0, r.buf[:0]
		return true, nil
	}
	if isAt(r.files[0], r.path) {
		return false, nil
	}
	return r.rotated(info)
}

// rotated appends the files that came after the current one, which has been renamed: the writer is done with it.
func (r *Reader) rotated(current os.FileInfo) (bool, error) {
	if n, err := r.whole(); n >= 0 || err != nil {
		return err == nil, err // written between the last read and the rotation
	}
	files, err := openAll(r.path)
	if err != nil || len(files) == 0 {
		return false, err
	}
	for i, f := range files {
		if info, err := f.Stat(); err == nil && os.SameFile(info, current) {
			closeAll(files[:i+1])
			files = files[i+1:]
			break
		}
	}
	if len(files) == 0 {
		return false, nil // between the two renames of a rotation
	}
	r.files = append(r.files[:1], files...)
	return true, nil
}

// wait waits until the log may have grown. ended: nothing will come any more but what is there.
func (r *Reader) wait(ctx context.Context) (ended bool, err error) {
	var until <-chan time.Time
	if !r.opts.Until.IsZero() {
		t := time.NewTimer(time.Until(r.opts.Until))
		defer t.Stop()
		until = t.C
	}
	select {
	case <-r.watch.changed:
		return false, nil
	case <-r.opts.Ended:
		return true, nil
	case <-until:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// Close closes the files.
func (r *Reader) Close() error {
	closeAll(r.files)
	r.files = nil
	if r.watch != nil {
		return r.watch.close()
	}
	return nil
}
