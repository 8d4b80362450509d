package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdDisk gives the engine that a story starts afterwards a disk of its own for its data: disk SIZE, in
// words of mkfs. It goes with the story.
func cmdDisk(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: disk SIZE")
	}
	dir := ownDir(ts)
	file, data := dir+".disk", filepath.Join(dir, "data")
	ts.Check(os.MkdirAll(data, 0o711))
	for _, cmd := range [][]string{
		{"mkfs.ext4", "-q", "-m", "0", file, args[0]}, // nothing is kept back for root: full is full
		{"mount", "-o", "loop,errors=remount-ro", file, data},
	} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			ts.Fatalf("%s: %v: %s", cmd[0], err, out)
		}
	}
	ts.Defer(func() {
		err := eventually(func() error { return unix.Unmount(data, 0) }) // files of removed layers go in the background
		if err != nil {
			ts.Logf("unmount the story's disk: %v", err) // it is found when the run ends
		}
		_ = os.Remove(file)
	})
}

// cmdBreakDisk makes the disk of the story read-only as the kernel does when it finds damage.
func cmdBreakDisk(ts *testscript.TestScript, _ bool, _ []string) {
	data := filepath.Join(ownDir(ts), "data")
	out, err := exec.Command("findmnt", "-n", "-o", "SOURCE", data).Output()
	ts.Check(err)
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(out))), "trigger_fs_error")
	ts.Check(os.WriteFile(trigger, []byte("bte2e"), 0))
	if err := os.WriteFile(filepath.Join(data, "written"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		ts.Fatalf("the disk was broken and takes files: %v", err)
	}
}

// cmdFlip changes one bit of a file: flip FILE OFFSET. An offset below zero counts from the end.
func cmdFlip(ts *testscript.TestScript, _ bool, args []string) {
	var at int64
	if len(args) != 2 {
		ts.Fatalf("usage: flip FILE OFFSET")
	}
	if _, err := fmt.Sscan(args[1], &at); err != nil {
		ts.Fatalf("flip: offset %q: %v", args[1], err)
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	info, err := f.Stat()
	ts.Check(err)
	if at < 0 {
		at += info.Size()
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	ts.Check(err)
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	ts.Check(err)
}
