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
	var made, want []string
	for hierarchy, name := range map[string]string{"/sys/fs/cgroup/systemd": ":name=systemd:", "/sys/fs/cgroup/unified": "0::"} {
		if _, err := os.Stat(filepath.Join(hierarchy, "cgroup.procs")); err != nil {
			continue
		}
		if err := os.Mkdir(hierarchy+unit, 0o755); err != nil {
			t.Fatal(err)
		}
		made, want = append(made, hierarchy+unit), append(want, name+b.parent+"/shims\n")
	}
	if len(made) == 0 {
		t.Skip("needs the hybrid layout: on version 2 alone a test cannot leave its own cgroup")
	}
	t.Cleanup(func() {
		for _, dir := range made {
			b.until("the unit's cgroup can be removed", func() bool { return os.Remove(dir) == nil })
		}
	})
	cfg := b.config()
	b.engineIn(made, cfg, "echo started; sleep 1000")
	s, err := b.launcher.Reconnect(t.Context(), cfg.ID, cfg.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	c := &container{s, b, cfg}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.shimPid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		if !strings.Contains(string(groups), w) {
			t.Errorf("the shim is in\n%swant %s", groups, w)
		}
	}
	b.destroy(cfg)
	b.until("the shim is gone, with all its threads", func() bool {
		for _, dir := range made {
			shims := filepath.Join(strings.TrimSuffix(dir, "-unit"), "shims")
			if err := os.Remove(shims); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return false
			}
		}
		return true
	})
}
