package mounttree

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-engine/berth/internal/inroot"
	"github.com/berth-engine/berth/internal/testroot"
	"golang.org/x/sys/unix"
)

func TestClone(t *testing.T) {
	testroot.Require(t)
	dir := testroot.Dir(t)
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := ClonePath(dir, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if b, err := inroot.ReadFile(tree, "f", 10); string(b) != "x" {
		t.Errorf("%q %v", b, err)
	}
	if f, err := inroot.Open(tree, "g", unix.O_CREAT|unix.O_WRONLY, 0o644); !errors.Is(err, unix.EROFS) {
		f.Close()
		t.Errorf("written through a read-only copy: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "g"), nil, 0o644); err != nil {
		t.Errorf("the original became read-only too: %v", err)
	}
	file, err := ClonePath(filepath.Join(dir, "f"), Options{NonRecursive: true, Propagation: "rslave"})
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	if _, err := ClonePath(filepath.Join(dir, "none"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := ClonePath(dir, Options{Propagation: "sideways"}); err == nil {
		t.Error("an unknown propagation was accepted")
	}
}
