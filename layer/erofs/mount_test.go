package erofs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/testroot"
)

// writeLayer makes a layer file of a tar, in a directory that the kernel can mount from.
func writeLayer(t testing.TB, tar []byte, opts Options) (*os.File, Result) {
	t.Helper()
	f, err := os.Create(filepath.Join(testroot.Dir(t), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	res, err := Write(t.Context(), f, reader(tar), opts)
	if err != nil {
		t.Fatal(err)
	}
	return f, res
}

// mount mounts a layer file as layer/ will, and returns where.
func mount(t testing.TB, f *os.File) string {
	t.Helper()
	testroot.Require(t)
	dir := filepath.Join(testroot.Dir(t), "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(f.Name(), dir, "erofs", unix.MS_RDONLY, "directio"); err != nil {
		t.Fatalf("mount the layer file: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
