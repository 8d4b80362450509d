package frame

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	long := bytes.Repeat([]byte("x"), streamChunk+7)
	if err := w.Write(1, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteJSON(2, map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Stream(3).Write(long); n != len(long) || err != nil {
		t.Fatal(n, err)
	}
	r := NewReader(&b)
	var got []byte
	for i := 0; ; i++ {
		kind, payload, err := r.Next()
		if errors.Is(err, io.EOF) {
			if i != 4 {
				t.Fatalf("%d frames, want 4", i)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case i == 0 && (kind != 1 || len(payload) != 0), i == 1 && (kind != 2 || string(payload) != `{"a":1}`), i > 1 && kind != 3:
			t.Fatalf("frame %d: kind %d, %d bytes", i, kind, len(payload))
		}
		if kind == 3 {
			got = append(got, payload...)
		}
	}
	if !bytes.Equal(got, long) {
		t.Fatal("a long write did not arrive whole")
	}
}

func TestRefusals(t *testing.T) {
	for name, in := range map[string]string{
		"torn header":  "\x01\x00",
		"torn payload": "\x01\x00\x00\x00\x05abc",
		"no payload":   "\x01\x00\x00\x00\x05",
	} {
		if _, _, err := NewReader(strings.NewReader(in)).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := NewReader(strings.NewReader("\x01\xff\xff\xff\xff")).Next(); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a frame of 4 GiB: %v", err)
	}
	if err := NewWriter(io.Discard).Write(1, make([]byte, MaxPayload+1)); err == nil {
		t.Error("a frame that is too long was written")
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x01a"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		for {
			if _, _, err := r.Next(); err != nil {
				return
			}
		}
	})
}
