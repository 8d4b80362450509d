package inroot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a root with links that try to leave it, and a secret beside it.
func tree(t *testing.T) *os.File {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(root, "etc"), 0o755),
		os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("inside"), 0o644),
		os.WriteFile(filepath.Join(dir, "secret"), []byte("outside"), 0o644),
		os.Symlink("../../../../secret", filepath.Join(root, "up")),
		os.Symlink("/etc/passwd", filepath.Join(root, "absolute")),
		os.Symlink("/proc/self/fd/0", filepath.Join(root, "magic")),
		unix.Mkfifo(filepath.Join(root, "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestReadFile(t *testing.T) {
	root := tree(t)
	for path, want := range map[string]string{"etc/passwd": "inside", "/etc/passwd": "inside", "../etc/passwd": "inside", "absolute": "inside"} {
		if b, err := ReadFile(root, path, 100); err != nil || string(b) != want {
			t.Errorf("%s: %q %v", path, b, err)
		}
	}
	for path, want := range map[string]error{"up": fs.ErrNotExist, "../secret": fs.ErrNotExist, "fifo": ErrNotRegular, "etc": ErrNotRegular, "magic": fs.ErrNotExist} {
		if b, err := ReadFile(root, path, 100); !errors.Is(err, want) {
			t.Errorf("%s: %q %v, want %v", path, b, err, want)
		}
	}
	if _, err := ReadFile(root, "etc/passwd", 3); err == nil {
		t.Error("a file over the limit was read")
	}
}

// TestBeneath: no link is followed, not even one that stays inside, and nothing leads out.
func TestBeneath(t *testing.T) {
	root := tree(t)
	for name, to := range map[string]string{"inside": "etc", "out": "/"} {
		if err := os.Symlink(to, filepath.Join(root.Name(), name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]error{
		"": nil, "etc": nil, "etc/passwd": nil, "none": unix.ENOENT, "inside/passwd": unix.ELOOP, "out/etc": unix.ELOOP, "..": unix.EXDEV, "etc/../../x": unix.EXDEV, "/etc": unix.EXDEV,
	} {
		f, err := Beneath(root, path, unix.O_PATH)
		if !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", path, err, want)
		}
		if err == nil && f.Name() != "/"+path {
			t.Errorf("%q is called %q", path, f.Name())
		}
		f.Close()
	}
	if _, err := Beneath(root, "inside", unix.O_RDONLY); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link itself: %v", err)
	}
	f, err := Beneath(root, "etc/new", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode() != 0o600 {
		t.Errorf("made with %v (%v)", st.Mode(), err)
	}
}
