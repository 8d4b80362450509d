package api

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestDetachKeys(t *testing.T) {
	for name, c := range map[string]struct {
		keys, in, out string
		detached      bool
	}{
		"none":               {"", "hello", "hello", false},
		"default":            {"", "ab\x10\x11cd", "ab", true},
		"half and then not":  {"", "a\x10b", "a\x10b", false},
		"half at the end":    {"", "a\x10", "a\x10", false},
		"half, then whole":   {"", "\x10\x10\x11", "\x10", true},
		"one key":            {"ctrl-]", "x\x1dy", "x", true},
		"letters":            {"a,b,a,c", "abababac", "abab", true},
		"overlap that fails": {"a,a,b", "aaac", "aaac", false},
	} {
		keys, err := parseDetachKeys(c.keys)
		if err != nil {
			t.Fatal(name, err)
		}
		for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
			got, err := io.ReadAll(keys.watch(r))
			if string(got) != c.out || errors.Is(err, errDetached) != c.detached {
				t.Errorf("%s: %q %v", name, got, err)
			}
		}
	}
	for _, s := range []string{"ctrl-", "ctrl-1", "ab", "a,,b"} {
		if _, err := parseDetachKeys(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func FuzzDetachKeys(f *testing.F) {
	f.Add("a,b,a,c", "abababab")
	f.Fuzz(func(t *testing.T, keys, in string) {
		k, err := parseDetachKeys(keys)
		if err != nil {
			return
		}
		got, err := io.ReadAll(k.watch(strings.NewReader(in)))
		want, after, found := strings.Cut(in, string(k))
		if string(got) != want || found != errors.Is(err, errDetached) {
			t.Errorf("keys %q in %q: %q %v, want %q (then %q)", k, in, got, err, want, after)
		}
	})
}
