package detachkeys

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"ctrl-p,ctrl-q": "\x10\x11", "a": "a", "a,b": "ab", "ctrl-@": "\x00", "ctrl-[": "\x1b", "ctrl-\\": "\x1c",
		"ctrl-]": "\x1d", "ctrl-^": "\x1e", "ctrl-_": "\x1f", "ctrl-z,Z": "\x1aZ",
	} {
		if got, err := Parse(in); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "ctrl-", "ctrl-A", "ctrl-1", "ctrl-p,", "alt-x", "ab"} {
		if got, err := Parse(in); err == nil {
			t.Errorf("%q was taken as %q", in, got)
		}
	}
}

func TestReader(t *testing.T) {
	const keys = "\x10\x11"
	for in, want := range map[string]struct {
		out    string
		detach bool
	}{
		"hello":              {"hello", false},
		"":                   {"", false},
		"ab\x10\x11never":    {"ab", true},
		"\x10a":              {"\x10a", false},
		"\x10\x10\x11":       {"\x10", true},
		"\x10":               {"\x10", false},
		"\x11\x10 \x11":      {"\x11\x10 \x11", false},
		"x\x10\x10\x10\x11y": {"x\x10\x10", true},
	} {
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader([]byte(in)), "by byte": iotest.OneByteReader(bytes.NewReader([]byte(in))),
			"with the end": iotest.DataErrReader(bytes.NewReader([]byte(in))),
		} {
			got, err := io.ReadAll(Reader(r, []byte(keys)))
			if string(got) != want.out || errors.Is(err, ErrDetached) != want.detach {
				t.Errorf("%q (%s): %q, %v", in, name, got, err)
			}
		}
	}
}

func TestReaderOverlap(t *testing.T) {
	got, err := io.ReadAll(Reader(bytes.NewReader([]byte("aaab")), []byte("aab")))
	if string(got) != "a" || !errors.Is(err, ErrDetached) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestKeysInInput(t *testing.T) {
	for name, c := range map[string]struct {
		keys, in, out string
		detached      bool
	}{
		"none":               {Default, "hello", "hello", false},
		"default":            {Default, "ab\x10\x11cd", "ab", true},
		"half and then not":  {Default, "a\x10b", "a\x10b", false},
		"half at the end":    {Default, "a\x10", "a\x10", false},
		"half, then whole":   {Default, "\x10\x10\x11", "\x10", true},
		"one key":            {"ctrl-]", "x\x1dy", "x", true},
		"letters":            {"a,b,a,c", "abababac", "abab", true},
		"overlap that fails": {"a,a,b", "aaac", "aaac", false},
	} {
		keys, err := Parse(c.keys)
		if err != nil {
			t.Fatal(name, err)
		}
		for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
			got, err := io.ReadAll(Reader(r, keys))
			if string(got) != c.out || errors.Is(err, ErrDetached) != c.detached {
				t.Errorf("%s: %q %v", name, got, err)
			}
		}
	}
	for _, s := range []string{"ctrl-", "ctrl-1", "ab", "a,,b"} {
		if _, err := Parse(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add("a,b,a,c", "abababab")
	f.Fuzz(func(t *testing.T, keys, in string) {
		k, err := Parse(keys)
		if err != nil {
			return
		}
		got, err := io.ReadAll(Reader(strings.NewReader(in), k))
		want, after, found := strings.Cut(in, string(k))
		if string(got) != want || found != errors.Is(err, ErrDetached) {
			t.Errorf("keys %q in %q: %q %v, want %q (then %q)", k, in, got, err, want, after)
		}
	})
}
