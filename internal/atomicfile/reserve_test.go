package atomicfile

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-engine/berth/internal/testroot"
	"golang.org/x/sys/unix"
)

// TestReserve: on a disk without a byte left a record is replaced again and again, whole each time; a new one is not
// made; and the reserve has its room again when there is some.
func TestReserve(t *testing.T) {
	testroot.Require(t)
	dir := testroot.Dir(t)
	disk := filepath.Join(dir, "disk")
	if out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", disk, "8M").CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", disk, root).CombinedOutput(); err != nil {
		t.Skipf("nothing can be mounted here: %v: %s", err, out)
	}
	defer func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	}()
	r := NewReserve(filepath.Join(root, "reserve"), 64<<10)
	path := filepath.Join(root, "r")
	if err := errors.Join(r.Fill(), WriteRecord(path, record{"x", 0}, Durable)); err != nil {
		t.Fatal(err)
	}
	full, err := os.Create(filepath.Join(root, "full"))
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	fill := func() {
		for _, size := range []int{1 << 20, 1 << 10} {
			for err = nil; err == nil; {
				_, err = full.Write(make([]byte, size))
			}
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
		}
	}
	fill()
	for i := range 10 {
		want := record{strings.Repeat("y", 100*i), i}
		if err := WriteRecord(path, want, Durable); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
		if err := r.ReplaceRecord(path, want, Durability(i%2 == 0)); err != nil {
			t.Fatal(err)
		}
		var got record
		if err := ReadRecord(path, &got); err != nil || got != want {
			t.Fatalf("%+v %v", got, err)
		}
		fill() // what replacing has given back
	}
	if err := r.ReplaceRecord(filepath.Join(root, "new"), record{}, Durable); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a new record: %v", err)
	}
	if err := errors.Join(os.Truncate(filepath.Join(root, "reserve"), 0), NewReserve(filepath.Join(root, "other"), 1<<20).Fill()); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("fill a reserve on a full disk: %v", err)
	}
	r = NewReserve(r.path, r.size)
	if _, err := full.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(full.Truncate(0), r.Fill()); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(root, "reserve"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if held, err := holds(f); held < 64<<10 || err != nil {
		t.Errorf("the reserve has %d bytes, %v", held, err)
	}
}
