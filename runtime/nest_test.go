package runtime_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNest: a shim is in a cgroup of its own where the engine is in one, so that who kills the engine's does not
// reach it.
func TestNest(t *testing.T) {
	b := newBench(t)
	unit := b.parent + "-unit"
	var made []string
	for _, h := range []string{"pids", "memory"} {
		dir := filepath.Join("/sys/fs/cgroup", h, unit)
		if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrNotExist) {
			t.Skipf("needs the version 1 hierarchy %s", h)
		} else if err != nil {
			t.Fatal(err)
		}
		made = append(made, dir)
	}
	t.Cleanup(func() {
		for _, dir := range made {
			b.until("the unit's cgroup can be removed", func() bool { return os.Remove(dir) == nil })
		}
	})
	cfg := b.config()
	b.engineIn(unit, cfg, "echo started; sleep 1000")
	s, err := b.launcher.Reconnect(t.Context(), cfg.ID, cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &container{s, b, cfg}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.shimPid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{":pids:" + b.parent + "/shims\n", ":memory:" + b.parent + "/shims\n"} {
		if !strings.Contains(string(groups), want) {
			t.Errorf("the shim is in\n%swant %s", groups, want)
		}
	}
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.Pid()))
	if err != nil || !strings.Contains(string(own), ":memory:"+b.parent+"/"+cfg.ID+"\n") {
		t.Errorf("the container is in\n%s", own)
	}
}
