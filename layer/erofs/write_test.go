package erofs

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "a/f", Typeflag: tar.TypeReg, Mode: 0o644, Size: 6},
		{Name: "b/g", Typeflag: tar.TypeReg, Mode: 0o644, Size: 6},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			w.Write([]byte("hello\n"))
		}
	}
	w.Close()
	f, res := writeLayer(t, b.Bytes(), Options{})
	dir := mount(t, f)
	for _, name := range []string{"a/f", "b/g"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != "hello\n" {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if res.DiffID != digest.FromBytes(b.Bytes()) {
		t.Errorf("diffID %s", res.DiffID)
	}
	if err := VerifyMetadata(f, res.MetadataDigest); err != nil {
		t.Error(err)
	}
	if err := VerifyTar(t.Context(), f, res.DiffID); err != nil {
		t.Error(err)
	}
}
