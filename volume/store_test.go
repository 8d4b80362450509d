package volume

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/testroot"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestLife(t *testing.T) {
	s := open(t)
	fill := func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644) }
	if _, err := s.Create(t.Context(), Volume{Name: "data", Labels: map[string]string{"a": "b"}}, fill); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Create(t.Context(), Volume{Name: "data"}, nil); !errdefs.IsAlreadyExists(err) || v.Labels["a"] != "b" {
		t.Errorf("made twice: %+v %v", v, err)
	}
	if b, err := os.ReadFile(filepath.Join(s.Path("data"), "f")); string(b) != "x" {
		t.Error(err)
	}
	if all, err := s.List(); len(all) != 1 || err != nil {
		t.Errorf("%v %v", all, err)
	}
	if err := s.Remove(t.Context(), "data"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), "data"); !errdefs.IsNotFound(err) {
		t.Errorf("removed twice: %v", err)
	}
	s.background.Wait()
	if entries, _ := os.ReadDir(s.root); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestNothingHalfMade(t *testing.T) {
	s := open(t)
	broken := errors.New("disk full")
	if _, err := s.Create(t.Context(), Volume{Name: "data"}, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	s.background.Wait()
	if entries, _ := os.ReadDir(s.root); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestFullDisk: a volume can be removed where the disk has no room for another name, and what a crash left of
// that is no volume, and goes.
func TestFullDisk(t *testing.T) {
	s := open(t)
	fill := func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644) }
	for _, name := range []string{"data", "half", "again"} {
		if _, err := s.Create(t.Context(), Volume{Name: name}, fill); err != nil {
			t.Fatal(err)
		}
	}
	s.rename = func(from, to string) error { return &os.LinkError{Op: "rename", Old: from, New: to, Err: unix.ENOSPC} }
	if err := s.Remove(t.Context(), "data"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(s.root, "data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	if err := s.Remove(t.Context(), "data"); !errdefs.IsNotFound(err) {
		t.Errorf("removed twice: %v", err)
	}
	s.rename = os.Rename
	for _, name := range []string{"half", "again"} { // as a crash leaves them
		if err := os.WriteFile(filepath.Join(s.root, name, "record"), []byte(condemnation), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := s.List(); len(all) != 0 || err != nil {
		t.Errorf("volumes that are being deleted are listed: %v %v", all, err)
	}
	if _, err := s.Create(t.Context(), Volume{Name: "again"}, nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(s.Path("again"), "f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the new volume has the old one's data: %v", err)
	}
	next, err := Open(t.Context(), s.root, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	s.background.Wait()
	next.background.Wait()
	if entries, err := os.ReadDir(s.root); len(entries) != 1 || entries[0].Name() != "again" {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// TestEmptyRecord: a volume whose record is lost, as a power loss loses it, is damaged. Its data stays until somebody says
// that it goes.
func TestEmptyRecord(t *testing.T) {
	s := open(t)
	if _, err := s.Create(t.Context(), Volume{Name: "data"}, func(dir string) error { return os.WriteFile(dir+"/f", []byte("x"), 0o644) }); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(s.root, "data", "record"), 0); err != nil {
		t.Fatal(err)
	}
	next, err := Open(t.Context(), s.root, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if _, err := next.Get("data"); !errors.Is(err, atomicfile.ErrDamaged) {
		t.Errorf("get: %v", err)
	}
	if _, err := next.Create(t.Context(), Volume{Name: "data"}, nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("create: %v", err)
	}
	next.background.Wait()
	if b, err := os.ReadFile(filepath.Join(next.Path("data"), "f")); string(b) != "x" || err != nil {
		t.Errorf("its data: %q, %v", b, err)
	}
	if err := next.Remove(t.Context(), "data"); err != nil {
		t.Error(err)
	}
}

// TestSweep: what a crash left is deleted beside the store's use, however deep it is; what can't be
// deleted is logged, and keeps nothing from being opened.
func TestSweep(t *testing.T) {
	testroot.Require(t)
	root := testroot.Dir(t)
	busy := filepath.Join(root, ".old-busy", "mounted")
	for _, dir := range []string{filepath.Join(root, ".old-deep"), filepath.Join(root, ".new-x"), busy} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	testroot.Deep(t, filepath.Join(root, ".old-deep"), 3000, nil)
	if err := unix.Mount("tmpfs", busy, "tmpfs", 0, ""); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	defer func() { _ = unix.Unmount(busy, unix.MNT_DETACH) }()
	testroot.FewDescriptors(t, 200)
	var logged strings.Builder
	s, err := Open(t.Context(), root, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.background.Wait()
	if left, err := os.ReadDir(root); err != nil || len(left) != 1 || left[0].Name() != ".old-busy" {
		t.Errorf("left: %v %v", left, err)
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 || !strings.Contains(logged.String(), busy) {
		t.Errorf("logged: %s", logged.String())
	}
}

// TestClaims: a volume that takes long to fill keeps nobody from making and removing others, and who wants
// the same one waits for it as long as they like.
func TestClaims(t *testing.T) {
	s := open(t)
	filling, filled, made := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := s.Create(t.Context(), Volume{Name: "large"}, func(string) error {
			close(filling)
			<-filled
			return nil
		})
		made <- err
	}()
	<-filling
	_, err := s.Create(t.Context(), Volume{Name: "small"}, nil)
	if err := errors.Join(err, s.Remove(t.Context(), "small")); err != nil {
		t.Error(err)
	}
	impatient := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(impatient)
	if _, err := s.Create(ctx, Volume{Name: "large"}, nil); !errors.Is(err, impatient) {
		t.Error(err)
	}
	if err := s.Remove(ctx, "large"); !errors.Is(err, impatient) {
		t.Error(err)
	}
	second := make(chan error, 1)
	go func() {
		_, err := s.Create(t.Context(), Volume{Name: "large"}, nil)
		second <- err
	}()
	close(filled)
	if err := <-made; err != nil {
		t.Error(err)
	}
	if err := <-second; !errdefs.IsAlreadyExists(err) {
		t.Errorf("made twice: %v", err)
	}
	if len(s.claims) != 0 {
		t.Errorf("still claimed: %v", s.claims)
	}
}

func TestNames(t *testing.T) {
	s := open(t)
	for _, name := range []string{"", "a", "../x", "a/b", ".new-x", "-x", "a b"} {
		if _, err := s.Create(t.Context(), Volume{Name: name}, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := s.Get(name); !errdefs.IsNotFound(err) {
			t.Errorf("get %q: %v", name, err)
		}
	}
}
