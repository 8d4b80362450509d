// Package testroot gives tests what needs root: a reason to skip without it, a directory on a real
// disk, names that no other run has.
package testroot

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
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
