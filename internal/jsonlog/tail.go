package jsonlog

import (
	"bytes"
	"os"
)

// seekTail goes to where the last Tail of the chosen entries begin, looking from the end backwards.
func (r *Reader) seekTail() error {
	want := r.opts.Tail
	for i := len(r.files) - 1; i >= 0; i-- {
		info, err := r.files[i].Stat()
		if err != nil {
			return err
		}
		at, found, err := r.back(r.files[i], info.Size(), want)
		if err != nil {
			return err
		}
		want -= found
		if want == 0 || i == 0 {
			closeAll(r.files[:i])
			r.files, r.pos = r.files[i:], at
			return nil
		}
	}
	return nil
}

// back looks in f, from the last whole line before end on backwards, for want chosen entries. It returns where the
// first of those that it found begins (with none: end of the last line) and their number.
func (r *Reader) back(f *os.File, end int64, want int) (at int64, found int, err error) {
	var tail []byte // the beginning of a line whose start has not been read yet, and what is before it
	first := true   // the bytes after the last newline are no line yet
	at = end
	for pos := end; pos > 0; {
		n := min(pos, readSize)
		data := make([]byte, n, n+int64(len(tail)))
		if _, err := f.ReadAt(data, pos-n); err != nil {
			return 0, 0, err
		}
		pos -= n
		data = append(data, tail...)
		for {
			i := bytes.LastIndexByte(data, '\n')
			if i < 0 && pos > 0 {
				break
			}
			line, start := data[i+1:], pos+int64(i)+1
			switch {
			case first:
				first, at = false, start
			case decode(line, &r.entry) && r.opts.wants(&r.entry):
				if found == want {
					return at, found, nil
				}
				found++
				at = start
			}
			if i < 0 {
				return at, found, nil
			}
			data = data[:i]
		}
		tail = data
		if found == want && !first {
			return at, found, nil
		}
	}
	return at, found, nil
}
