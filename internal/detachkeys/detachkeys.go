// Package detachkeys reads and finds the sequence of keys that detaches a terminal from a container.
package detachkeys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Default are those of Docker.
const Default = "ctrl-p,ctrl-q"

// ErrDetached is what a Reader returns when the keys were pressed.
var ErrDetached = errors.New("detached by the detach keys")

// Parse reads a list such as "ctrl-p,q": single characters, or ctrl- and one of a-z, @, [, \, ], ^, _.
func Parse(keys string) ([]byte, error) {
	var out []byte
	for _, key := range strings.Split(keys, ",") {
		if len(key) == 1 {
			out = append(out, key[0])
			continue
		}
		rest, ok := strings.CutPrefix(key, "ctrl-")
		if !ok || len(rest) != 1 {
			return nil, fmt.Errorf("invalid detach keys (%s): unknown key %q", keys, key)
		}
		switch c := rest[0]; {
		case c >= 'a' && c <= 'z':
			out = append(out, c-'a'+1)
		case c == '@':
			out = append(out, 0)
		case c >= '[' && c <= '_':
			out = append(out, c-'['+27)
		default:
			return nil, fmt.Errorf("invalid detach keys (%s): unknown key %q", keys, key)
		}
	}
	return out, nil
}

// Reader reads from r until keys come in a row: then ErrDetached. Keys that begin the sequence are
// held back until it is clear whether it goes on.
func Reader(r io.Reader, keys []byte) io.Reader {
	if len(keys) == 0 {
		return r
	}
	return &reader{r: r, keys: keys}
}

type reader struct {
	r       io.Reader
	keys    []byte
	matched int    // how many keys of the sequence have been held back
	out     []byte // to be read
	err     error  // after out
}

func (d *reader) Read(p []byte) (int, error) {
	for len(d.out) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		buf := make([]byte, max(len(p), 1))
		n, err := d.r.Read(buf)
		d.take(buf[:n])
		if err != nil && d.err == nil {
			d.out = append(d.out, d.keys[:d.matched]...)
			d.matched, d.err = 0, err
		}
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// take moves what came to out, less what may be the beginning of the sequence.
func (d *reader) take(in []byte) {
	for _, b := range in {
		held := append(bytes.Clone(d.keys[:d.matched]), b)
		// What is held back is always a beginning of keys: let go of the front until it is one again.
		for len(held) > 0 && !bytes.HasPrefix(d.keys, held) {
			d.out = append(d.out, held[0])
			held = held[1:]
		}
		if d.matched = len(held); d.matched == len(d.keys) {
			d.matched, d.err = 0, ErrDetached
			return
		}
	}
}
