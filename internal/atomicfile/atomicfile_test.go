package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

type record struct {
	Name string
	N    int
}

func TestRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r")
	for i, d := range []Durability{Durable, Volatile} {
		want := record{"x\nsha256:", i}
		if err := WriteRecord(path, want, d); err != nil {
			t.Fatal(err)
		}
		var got record
		if err := ReadRecord(path, &got); err != nil || got != want {
			t.Fatalf("%+v %v", got, err)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*")); names != nil {
		t.Errorf("left behind: %v", names)
	}
}

func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r")
	if err := ReadRecord(path, &record{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := WriteRecord(path, record{"x", 1}, Volatile); err != nil {
		t.Fatal(err)
	}
	whole, _ := os.ReadFile(path)
	for i := range whole[:len(whole)-1] { // the last newline carries nothing
		b := append([]byte(nil), whole...)
		b[i] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := ReadRecord(path, &record{}); !errors.Is(err, ErrDamaged) {
			t.Errorf("bit flipped at %d: %v", i, err)
		}
	}
}

func TestWriteFailsWhole(t *testing.T) {
	if err := Write(filepath.Join(t.TempDir(), "no", "such"), nil, 0o600, Durable); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "d")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("x"), 0o600, Volatile); err == nil {
		t.Error("a file replaced a directory")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}
