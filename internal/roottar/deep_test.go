package roottar

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-engine/berth/internal/testroot"
	"github.com/containerd/errdefs"
)

// TestPackDeep: how much a tree takes of the engine has an end.
func TestPackDeep(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, dir string)
		kind func(error) bool // nil: packed
	}{
		"deep":       {func(t *testing.T, dir string) { nest(t, dir, maxDepth-10) }, nil},
		"too deep":   {func(t *testing.T, dir string) { nest(t, dir, maxDepth+1) }, errdefs.IsFailedPrecondition},
		"long names": {func(t *testing.T, dir string) { testroot.Deep(t, dir, 500, nil) }, errdefs.IsFailedPrecondition},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(t, dir)
			root := opened(t, dir)
			testroot.FewDescriptors(t, maxDepth+100)
			err := Pack(t.Context(), root, "/", io.Discard, PackOptions{})
			if c.kind == nil && err != nil || c.kind != nil && !c.kind(err) {
				t.Errorf("%.300v", err)
			}
			if err != nil && (len(err.Error()) > 300 || !strings.Contains(err.Error(), "nested too deep")) {
				t.Errorf("says %q", err)
			}
		})
	}
}

func nest(t *testing.T, dir string, levels int) {
	t.Helper()
	if err := os.MkdirAll(dir+strings.Repeat("/d", levels), 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestReplaceDeep: a directory is replaced by a file however deep it is.
func TestReplaceDeep(t *testing.T) {
	testroot.Require(t)
	dir := testroot.Dir(t)
	if err := os.Mkdir(filepath.Join(dir, "name"), 0o700); err != nil {
		t.Fatal(err)
	}
	testroot.Deep(t, filepath.Join(dir, "name"), 3000, nil)
	root := opened(t, dir)
	testroot.FewDescriptors(t, 100)
	file := entries(t, tar.Header{Name: "name", Typeflag: tar.TypeReg})
	if err := Unpack(t.Context(), root, "/", file, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "name")); string(got) != "evil" {
		t.Errorf("%q %v", got, err)
	}
}
