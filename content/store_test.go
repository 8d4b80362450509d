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
	"time"

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

func TestResume(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	want := digest.FromString("hello world")
	w, err := s.Resume(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resume(t.Context(), want); !errdefs.IsUnavailable(err) {
		t.Errorf("two writers: %v", err)
	}
	if _, err := io.WriteString(w, "hello "); err != nil {
		t.Fatal(err)
	}
	if err := w.Suspend(); err != nil {
		t.Fatal(err)
	}
	s = open(t, root) // a new engine
	if w, err = s.Resume(t.Context(), want); err != nil || w.Size() != 6 {
		t.Fatal(w.Size(), err)
	}
	if _, err := io.WriteString(w, "world"); err != nil {
		t.Fatal(err)
	}
	if i, err := w.Commit(t.Context(), want); err != nil || i.Size != 11 {
		t.Fatal(i, err)
	}
	if err := s.Verify(t.Context(), want); err != nil {
		t.Error(err)
	}
}

func TestTruncate(t *testing.T) {
	s := open(t, t.TempDir())
	want := digest.FromString("right")
	w, err := s.Resume(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"wrong and longer", "right"} {
		if err := w.Truncate(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Commit(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

func TestSweep(t *testing.T) {
	root := t.TempDir()
	open(t, root)
	in := filepath.Join(root, "incoming")
	young, old := filepath.Join(in, strings.Repeat("a", 64)), filepath.Join(in, strings.Repeat("b", 64))
	for _, f := range []string{young, old, filepath.Join(in, "new-1")} {
		if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * keepUnfinished)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	open(t, root)
	if left, _ := os.ReadDir(in); len(left) != 1 || left[0].Name() != filepath.Base(young) {
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
