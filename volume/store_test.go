package volume

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLife(t *testing.T) {
	s := open(t)
	fill := func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644) }
	if _, err := s.Create(Volume{Name: "data", Labels: map[string]string{"a": "b"}}, fill); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Create(Volume{Name: "data"}, nil); !errdefs.IsAlreadyExists(err) || v.Labels["a"] != "b" {
		t.Errorf("made twice: %+v %v", v, err)
	}
	if b, err := os.ReadFile(filepath.Join(s.Path("data"), "f")); string(b) != "x" {
		t.Error(err)
	}
	if all, err := s.List(); len(all) != 1 || err != nil {
		t.Errorf("%v %v", all, err)
	}
	if err := s.Remove("data"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("data"); !errdefs.IsNotFound(err) {
		t.Errorf("removed twice: %v", err)
	}
	if entries, _ := os.ReadDir(s.root); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestNothingHalfMade(t *testing.T) {
	s := open(t)
	broken := errors.New("disk full")
	if _, err := s.Create(Volume{Name: "data"}, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(s.root); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if err := os.Mkdir(filepath.Join(s.root, ".old-x"), 0o700); err != nil { // as a crash leaves it
		t.Fatal(err)
	}
	if _, err := Open(s.root); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(s.root); len(entries) != 0 {
		t.Errorf("not swept: %v", entries)
	}
}

func TestNames(t *testing.T) {
	s := open(t)
	for _, name := range []string{"", "a", "../x", "a/b", ".new-x", "-x", "a b"} {
		if _, err := s.Create(Volume{Name: name}, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := s.Get(name); !errdefs.IsNotFound(err) {
			t.Errorf("get %q: %v", name, err)
		}
	}
}
