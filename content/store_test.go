package content

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

func open(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestLife(t *testing.T) {
	s := open(t, t.TempDir())
	d := digest.FromString("hello")
	for range 2 { // the second finds it there
		if n, err := s.Put(t.Context(), d, strings.NewReader("hello")); n != 5 || err != nil {
			t.Fatal(n, err)
		}
	}
	b, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got, _ := io.ReadAll(b.Reader()); string(got) != "hello" || b.Size() != 5 {
		t.Errorf("%q", got)
	}
	if all, err := s.Digests(); err != nil || !slices.Equal(all, []digest.Digest{d}) {
		t.Error(all, err)
	}
	if gone, err := s.Delete(d, digest.FromString("none")); err != nil || !slices.Equal(gone, []digest.Digest{d}) {
		t.Fatal(gone, err)
	}
	if got, _ := io.ReadAll(b.Reader()); string(got) != "hello" {
		t.Errorf("after the delete: %q", got)
	}
	if gone, err := s.Delete(d); err != nil || len(gone) != 0 {
		t.Error(gone, err)
	}
	if err := s.Verify(t.Context(), d); !errdefs.IsNotFound(err) {
		t.Errorf("verify: %v", err)
	}
}

func TestNothingUnverifiedIsNamed(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	want := digest.FromString("other")
	if _, err := s.Put(t.Context(), want, strings.NewReader("hello")); !errdefs.IsFailedPrecondition(err) {
		t.Error(err)
	}
	broken := errors.New("cable pulled")
	if _, err := s.Put(t.Context(), want, io.MultiReader(strings.NewReader("oth"), failing{broken})); !errors.Is(err, broken) {
		t.Error(err)
	}
	for _, d := range []digest.Digest{want, digest.FromString("hello")} {
		if _, err := s.Info(d); !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", d, err)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(root, "incoming")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, d := range []digest.Digest{"", "sha256:../../etc/passwd", "md5:00", digest.Digest("sha512:" + strings.Repeat("0", 128))} {
		if _, err := s.Open(d); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", d, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestSweep(t *testing.T) {
	root := t.TempDir()
	open(t, root)
	in := filepath.Join(root, "incoming")
	if err := os.WriteFile(filepath.Join(in, "new-1"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, root)
	if left, _ := os.ReadDir(in); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	s := open(t, t.TempDir())
	content := bytes.Repeat([]byte("x"), 1<<16)
	d := digest.FromBytes(content)
	if _, err := s.Put(t.Context(), d, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	content[1<<15] ^= 1
	path, _ := s.path(d)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), d); !errdefs.IsDataLoss(err) {
		t.Error(err)
	}
}
