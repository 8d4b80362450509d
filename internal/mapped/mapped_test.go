package mapped

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestEntry: of a program that is linked with the entry point all pages are there when main begins; of another one they
// are not.
func TestEntry(t *testing.T) {
	for _, c := range []struct {
		flags string
		all   bool
	}{{"", false}, {"-E=berth_mapped_entry", true}} {
		program := filepath.Join(t.TempDir(), "program")
		build := exec.Command("go", "build", "-o", program, "-ldflags", c.flags, "./testdata/program")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out, err := exec.Command(program).Output()
		var resident, size int
		if _, failed := fmt.Sscan(string(out), &resident, &size); err != nil || failed != nil {
			t.Fatalf("%q, %v", out, err)
		}
		if all := resident == size; all != c.all {
			t.Errorf("linked with %q: %d of %d kB are mapped", c.flags, resident, size)
		}
	}
}
