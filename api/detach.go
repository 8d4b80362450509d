package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
)

// detachKeys is the sequence of bytes that detaches from a terminal.
type detachKeys []byte

var errDetached = errors.New("detached")

// defaultDetachKeys are ctrl-p, ctrl-q.
var defaultDetachKeys = detachKeys{16, 17}

// parseDetachKeys reads "ctrl-p,ctrl-q" or "a,b" (moby, term.ToBytes); "" is the default.
func parseDetachKeys(s string) (detachKeys, error) {
	if s == "" {
		return defaultDetachKeys, nil
	}
	var keys detachKeys
	for _, key := range strings.Split(s, ",") {
		letter, ctrl := strings.CutPrefix(key, "ctrl-")
		if len(letter) != 1 {
			return nil, fmt.Errorf("Invalid detach keys (%s): unknown key %q: %w", s, key, errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's sentence
		}
		c := letter[0]
		if !ctrl {
			keys = append(keys, c)
			continue
		}
		const letters, others = "abcdefghijklmnopqrstuvwxyz", "@[\\]^_"
		switch at := strings.IndexByte(letters, c); {
		case at >= 0:
			keys = append(keys, byte(at+1))
		case c == '@':
			keys = append(keys, 0)
		case strings.IndexByte(others, c) > 0:
			keys = append(keys, byte(26+strings.IndexByte(others, c)))
		default:
			return nil, fmt.Errorf("Invalid detach keys (%s): unknown key %q: %w", s, key, errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's sentence
		}
	}
	return keys, nil
}

// watch returns a reader that ends with errDetached after the keys. What only begins like them is
// passed on when that is known.
func (k detachKeys) watch(r io.Reader) io.Reader { return &keyWatcher{r: r, keys: k} }

type keyWatcher struct {
	r       io.Reader
	keys    detachKeys
	matched int    // how many of the keys the last bytes were; they are held back
	pending []byte // to be given out
	err     error  // after pending
}

func (w *keyWatcher) Read(p []byte) (int, error) {
	for len(w.pending) == 0 && w.err == nil {
		buf := make([]byte, max(len(p), 1))
		n, err := w.r.Read(buf)
		w.take(buf[:n])
		if err != nil && w.err == nil {
			w.pending = append(w.pending, w.keys[:w.matched]...)
			w.matched, w.err = 0, err
		}
	}
	if len(w.pending) > 0 {
		n := copy(p, w.pending)
		w.pending = w.pending[n:]
		return n, nil
	}
	return 0, w.err
}

func (w *keyWatcher) take(b []byte) {
	for _, c := range b {
		for w.matched > 0 && w.keys[w.matched] != c {
			// Not the keys: give out the first byte held, and look whether what is left begins like them.
			held := append(bytes.Clone(w.keys[:w.matched]), c)
			w.pending = append(w.pending, held[0])
			rest := held[1 : len(held)-1]
			w.matched = 0
			for start := 0; start < len(rest); start++ {
				if bytes.HasPrefix(w.keys, rest[start:]) {
					w.pending = append(w.pending, rest[:start]...)
					w.matched = len(rest) - start
					break
				}
				if start == len(rest)-1 {
					w.pending = append(w.pending, rest...)
				}
			}
		}
		if w.keys[w.matched] != c {
			w.pending = append(w.pending, c)
			continue
		}
		if w.matched++; w.matched == len(w.keys) {
			w.matched, w.err = 0, errDetached
			return
		}
	}
}
