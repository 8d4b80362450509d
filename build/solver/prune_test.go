package solver

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-engine/berth/internal/testroot"
)

// TestDeepTrees: what RUN can make does not keep the solver from being opened, measured or pruned.
func TestDeepTrees(t *testing.T) {
	const levels = 3000
	root := t.TempDir()
	mount, step := filepath.Join(root, mountsDir, "key"), filepath.Join(root, uppersDir, "1")
	for _, dir := range []string{filepath.Join(mount, "data"), step} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		testroot.Deep(t, dir, levels, func(d *os.Root, _ int) error { return d.WriteFile("file", []byte("1"), 0o600) })
	}
	if err := os.WriteFile(filepath.Join(mount, "name"), []byte("id"), 0o600); err != nil {
		t.Fatal(err)
	}
	testroot.FewDescriptors(t, 200)
	var logged strings.Builder
	s, err := New(t.Context(), Options{Root: root, Log: slog.New(slog.NewTextHandler(&logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.background.Wait()
	mounts, err := s.CacheMounts(t.Context())
	if err != nil || len(mounts) != 1 || mounts[0].Bytes != levels+2 {
		t.Errorf("%+v %v", mounts, err)
	}
	if freed, err := s.PruneCacheMounts(t.Context(), time.Now().Add(time.Hour)); freed != levels+2 || err != nil {
		t.Errorf("freed %d bytes: %v", freed, err)
	}
	for dir, want := range map[string]int{"": 2, uppersDir: 0, mountsDir: 0} {
		if left, err := os.ReadDir(filepath.Join(root, dir)); err != nil || len(left) != want {
			t.Errorf("left in %q: %v %v", dir, left, err)
		}
	}
	if logged.Len() > 0 {
		t.Error(logged.String())
	}
}
