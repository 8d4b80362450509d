package jsonlog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/testroot"
)

// smallDisk mounts a tmpfs of 64 KiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	testroot.Require(t)
	dir := filepath.Join(testroot.Dir(t), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bt", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	path := filepath.Join(dir, "log")
	w := newWriter(t, path, WriteOptions{MaxSize: -1})
	out := w.Stream("stdout")
	const lines = 2000
	for range lines {
		write(t, out, strings.Repeat("x", 63)+"\n")
	}
	_, dropped := w.End()
	got := read(t, path, all)
	kept := strings.Count(got, "\n")
	if dropped == 0 || kept+int(dropped) != lines {
		t.Errorf("%d lines are there and %d were counted as lost, of %d", kept, dropped, lines)
	}
	if err := os.Truncate(path, 0); err != nil { // space again
		t.Fatal(err)
	}
	write(t, out, "back\n")
	if got := read(t, path, all); !strings.Contains(got, "lines of output were lost here: no space left on device]\nback\n") {
		t.Errorf("with space again: %q", got)
	}
	if _, again := w.End(); again != dropped {
		t.Errorf("%d lost, %d before", again, dropped)
	}
}

// TestFullDiskRotation fills the disk while the log rotates: the bounds hold, and every line is there or counted.
func TestFullDiskRotation(t *testing.T) {
	dir := smallDisk(t)
	path := filepath.Join(dir, "log")
	w := newWriter(t, path, WriteOptions{MaxSize: 30000, MaxFiles: 10})
	out := w.Stream("stdout")
	const lines = 5000
	for range lines {
		write(t, out, strings.Repeat("x", 63)+"\n")
	}
	_, dropped := w.End()
	kept := strings.Count(read(t, path, all), strings.Repeat("x", 63))
	if dropped == 0 || kept+int(dropped) != lines {
		t.Errorf("%d lines are there and %d were counted as lost, of %d", kept, dropped, lines)
	}
}
