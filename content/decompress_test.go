package content

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
)

func compressions(t testing.TB, plain []byte) map[Compression][]byte {
	t.Helper()
	var g bytes.Buffer
	z := gzip.NewWriter(&g)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[Compression][]byte{None: plain, Gzip: g.Bytes(), Zstd: e.EncodeAll(plain, nil)}
}

func TestDecompress(t *testing.T) {
	plain := bytes.Repeat([]byte("some content, again and again\n"), 10000)
	for want, in := range compressions(t, plain) {
		r, got, err := Decompress(bytes.NewReader(in))
		if err != nil || got != want {
			t.Fatal(want, got, err)
		}
		out, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(out, plain) {
			t.Errorf("%s: %d bytes, %v", want, len(out), err)
		}
		if err := r.Close(); err != nil {
			t.Error(want, err)
		}
		if want == None {
			continue
		}
		r, _, err = Decompress(bytes.NewReader(in[:len(in)/2]))
		if err == nil {
			_, err = io.ReadAll(r)
			if again := r.Close(); again != nil {
				t.Errorf("%s, cut in half: what Read has said, Close says again: %v", want, again)
			}
		}
		if !errdefs.IsDataLoss(err) {
			t.Errorf("%s, cut in half: %v", want, err)
		}
	}
	for _, short := range []string{"", "x", "\x1f"} {
		r, kind, err := Decompress(bytes.NewReader([]byte(short)))
		if err != nil || kind != None {
			t.Fatalf("%q: %v %v", short, kind, err)
		}
		if out, err := io.ReadAll(r); string(out) != short || err != nil {
			t.Errorf("%q: %q %v", short, out, err)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	for _, in := range compressions(f, []byte("seed")) {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, _, err := Decompress(bytes.NewReader(in))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
		r.Close()
	})
}
