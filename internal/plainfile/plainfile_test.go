package plainfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-engine/berth/internal/plainfile"
)

func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, size := range []int{0, 1, 4095, 4096, 4097, 1 << 20, 5} {
		want := bytes.Repeat([]byte("x"), size)
		if err := plainfile.Write(path, want, 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := plainfile.Read(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: read %d, %v", size, len(got), err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// The files of /proc say that they have no size.
func TestReadProc(t *testing.T) {
	got, err := plainfile.Read("/proc/self/mountinfo")
	want, werr := os.ReadFile("/proc/self/mountinfo")
	if err != nil || werr != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d: %v, %v", len(got), len(want), err, werr)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	var path *fs.PathError
	if _, err := plainfile.Read(dir + "/none"); !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &path) || path.Path != dir+"/none" {
		t.Errorf("read: %v", err)
	}
	if _, err := plainfile.Open(dir+"/none", os.O_RDONLY, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	if err := plainfile.Write(dir+"/none/file", nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("write: %v", err)
	}
	if _, err := plainfile.Read(dir); err == nil {
		t.Error("a directory was read")
	}
}

func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := plainfile.Write(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := plainfile.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	if _, err := plainfile.ReadDir(filepath.Join(dir, "a")); err == nil {
		t.Error("a file was read as a directory")
	}
}
