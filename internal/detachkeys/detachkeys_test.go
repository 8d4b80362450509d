package terminal

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestParseKeys(t *testing.T) {
	for in, want := range map[string]string{
		"ctrl-p,ctrl-q": "\x10\x11", "a": "a", "a,b": "ab", "ctrl-@": "\x00", "ctrl-[": "\x1b", "ctrl-\\": "\x1c",
		"ctrl-]": "\x1d", "ctrl-^": "\x1e", "ctrl-_": "\x1f", "ctrl-z,Z": "\x1aZ",
	} {
		if got, err := ParseKeys(in); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "ctrl-", "ctrl-A", "ctrl-1", "ctrl-p,", "alt-x", "ab"} {
		if got, err := ParseKeys(in); err == nil {
			t.Errorf("%q was taken as %q", in, got)
		}
	}
}

func TestDetachable(t *testing.T) {
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
			got, err := io.ReadAll(Detachable(r, []byte(keys)))
			if string(got) != want.out || errors.Is(err, ErrDetach) != want.detach {
				t.Errorf("%q (%s): %q, %v", in, name, got, err)
			}
		}
	}
}

func TestDetachableOverlap(t *testing.T) {
	got, err := io.ReadAll(Detachable(bytes.NewReader([]byte("aaab")), []byte("aab")))
	if string(got) != "a" || !errors.Is(err, ErrDetach) {
		t.Errorf("%q, %v", got, err)
	}
}
