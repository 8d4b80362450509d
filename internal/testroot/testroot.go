// Package testroot gives tests what needs root: a reason to skip without it, a directory on a real
// disk, names that no other run has.
package testroot

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Require skips the test where it does not run as root.
func Require(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes namespaces, mounts and cgroups")
	}
}

// Dir returns a new directory below /var/tmp (a file on tmpfs or overlay cannot be mounted from) and
// removes it at the end.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", Prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("the test's directory could not be removed (is something still mounted there?): %v", err)
		}
	})
	return dir
}

// Deep makes directories within one another in dir, which is there, each with what fill (may be nil) puts
// beside the next. Some hundred are deeper than a path is long; making them takes few descriptors.
func Deep(t testing.TB, dir string, levels int, fill func(dir *os.Root, level int) error) {
	t.Helper()
	at, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { at.Close() }()
	for level := range levels {
		err := at.Mkdir("dddddddddd", 0o700)
		if fill != nil {
			err = errors.Join(err, fill(at, level))
		}
		if err != nil {
			t.Fatal(err)
		}
		next, err := at.OpenRoot("dddddddddd")
		if err != nil {
			t.Fatal(err)
		}
		at.Close()
		at = next
	}
}

// FewDescriptors lets the process open n files beside those that it has, until the test's end. The test
// must not be parallel to others.
func FewDescriptors(t testing.TB, n int) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	last := 0 // the limit is of numbers
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			last = max(last, fd)
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(last + n), Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was) })
}

// Prefix begins the name of everything that tests make on the machine: directories, links, cgroups,
// tables.
const Prefix = "bt"

var count atomic.Int64

// Name returns a name of at most 15 bytes (IFNAMSIZ - 1) that no other test of any run on this
// machine has: prefix, pid, number.
func Name(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("%s%x-%x", Prefix, os.Getpid(), count.Add(1))
	if len(name) > 15 || strings.ContainsAny(name, "/ ") {
		t.Fatalf("name %q", name)
	}
	return name
}
