package deeptree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-engine/berth/internal/testroot"
	"golang.org/x/sys/unix"
)

func TestDeep(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	top := filepath.Join(dir, "top")
	for _, err := range []error{os.Mkdir(outside, 0o700), os.WriteFile(filepath.Join(outside, "file"), []byte("kept"), 0o600), os.Mkdir(top, 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// Deeper than a path is long, and than there are descriptors; wide where directories are closed.
	const levels = 3000
	wide := 0
	testroot.Deep(t, top, levels, func(d *os.Root, level int) error {
		err := errors.Join(d.Symlink(outside, "link"), d.WriteFile("file", []byte("1234567890"), 0o600))
		if level%1000 == kept+1 {
			for i := range 300 {
				wide++
				name := fmt.Sprintf("%0100d", i)
				err = errors.Join(err, d.Mkdir(name, 0o700), d.WriteFile(name+"/file", []byte("1"), 0o600))
			}
		}
		return err
	})
	testroot.FewDescriptors(t, kept+40)
	if got, want := Size(t.Context(), top), int64(levels*10+wide); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	for range 2 { // the second time there is nothing
		if err := Remove(top); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left: %v %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(at("file"), nil, 0o400),
		os.Symlink(at("file"), at("link")),
		os.Mkdir(at("empty"), 0o700),
		unix.Mkfifo(at("fifo"), 0o600),
		os.WriteFile(at("stays"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"link", "file", "empty", "fifo", "none", "none/at/all"} {
		if err := Remove(at(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if left, err := d.Readdirnames(-1); err != nil || len(left) != 1 {
		t.Errorf("left: %v %v", left, err)
	}
	if err := RemoveAt(d, "stays"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(at("stays")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestRemoveStops(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "top")
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o700); err != nil {
		t.Fatal(err)
	}
	why := errors.New("the engine ends")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := RemoveContext(ctx, dir); !errors.Is(err, why) {
		t.Error(err)
	}
	if err := RemoveContext(t.Context(), dir); err != nil {
		t.Error(err)
	}
}

// TestMarked: what chattr(1) has marked goes, too.
func TestMarked(t *testing.T) {
	testroot.Require(t)
	top := filepath.Join(testroot.Dir(t), "top")
	if err := errors.Join(os.MkdirAll(filepath.Join(top, "dir/sub"), 0o700), os.WriteFile(filepath.Join(top, "dir/file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, mark := range map[string]int{"dir/sub": 0x10, "dir/file": 0x20, "dir": 0x10} { // immutable, append-only
		f, err := os.Open(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, mark)
		f.Close()
		if err != nil {
			t.Skipf("the file system at /var/tmp knows no marks, or they may not be set: %v", err)
		}
	}
	if err := Remove(top); err != nil {
		t.Error(err)
	}
}

// TestMounted: what is mounted in a tree is neither measured nor deleted; the rest is.
func TestMounted(t *testing.T) {
	testroot.Require(t)
	dir := testroot.Dir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"top/a", "top/mounted", "top/z", "other"} {
		if err := errors.Join(os.MkdirAll(at(name), 0o700), os.WriteFile(at(name+"/file"), []byte("1"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(at("other"), at("top/mounted"), "", unix.MS_BIND, ""); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	defer func() { _ = unix.Unmount(at("top/mounted"), unix.MNT_DETACH) }()
	if n := Size(t.Context(), at("top")); n != 2 {
		t.Errorf("%d bytes, want 2", n)
	}
	err := Remove(at("top"))
	if path := new(os.PathError); !errors.As(err, &path) || path.Path != at("top/mounted") {
		t.Errorf("removed with something mounted: %v", err)
	}
	if left, err := os.ReadDir(at("top")); err != nil || len(left) != 1 {
		t.Errorf("left: %v %v", left, err)
	}
	if _, err := os.Stat(at("other/file")); err != nil {
		t.Error(err)
	}
	if err := unix.Unmount(at("top/mounted"), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := Remove(at("top")); err != nil {
		t.Error(err)
	}
}

func TestSize(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Mkdir(at("a"), 0o700),
		os.WriteFile(at("a/file"), make([]byte, 100), 0o600),
		os.Link(at("a/file"), at("second")),
		os.Link(at("a/file"), at("third")),
		os.WriteFile(at("own"), make([]byte, 7), 0o600),
		os.Symlink(at("own"), at("link")),
		unix.Mkfifo(at("fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := Size(t.Context(), dir); n != 107 {
		t.Errorf("%d bytes, want 107", n)
	}
	if n := Size(t.Context(), at("none")); n != 0 {
		t.Errorf("%d bytes of nothing", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n := Size(ctx, dir); n != 0 {
		t.Errorf("%d bytes after the end", n)
	}
}

// TestMoved: a directory that is moved while the walk is in it leads nowhere else.
func TestMoved(t *testing.T) {
	dir := t.TempDir()
	top := filepath.Join(dir, "top")
	if err := os.Mkdir(top, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "outside"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const levels = kept + 20
	testroot.Deep(t, top, levels, func(d *os.Root, level int) error { return d.WriteFile(fmt.Sprint("file", level), nil, 0o600) })
	moved := top // its name when the walk is below it
	for range kept + 10 {
		moved = filepath.Join(moved, "dddddddddd")
	}
	seen, failed := map[string]int{}, 0
	w := walker{path: top, stop: never, failed: func(err error) {
		failed++
		if !errors.Is(err, unix.ESTALE) {
			t.Error(err)
		}
	}}
	w.entry = func(_ int, name string, kind byte) bool {
		if kind == unix.DT_DIR {
			return true
		}
		if seen[name]++; name == fmt.Sprint("file", levels-1) {
			if err := os.Rename(moved, filepath.Join(dir, "elsewhere")); err != nil {
				t.Error(err)
			}
		}
		return false
	}
	fd, err := unix.Open(top, openDirectory, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.push(fd, top), w.walk()); err != nil {
		t.Fatal(err)
	}
	if failed != 1 || seen["outside"] != 0 || seen["file0"] != 1 || seen[fmt.Sprint("file", levels-1)] != 1 {
		t.Errorf("failed %d times, seen %v", failed, seen)
	}
}
