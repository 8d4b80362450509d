package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// nest is where shims live: a cgroup beside those of the containers, outside of the engine's. What stops or kills the
// engine's unit as a whole (systemctl stop, kill) must not reach them. systemd finds the processes of a unit in the
// unified hierarchy or, where there is none, in the one of its own name.
type nest struct {
	born  *os.File // the group in the unified hierarchy, nil: the engine is in none there
	procs string   // file of the group in systemd's version 1 hierarchy that a shim is written into, "": likewise
}

const cgroupTop = "/sys/fs/cgroup"

// newNest makes the groups that are needed.
func newNest(parent string) (*nest, error) {
	own, err := ownCgroups("/proc/self/cgroup")
	if errors.Is(err, os.ErrNotExist) {
		return &nest{}, nil
	}
	if err != nil {
		return nil, err
	}
	n := &nest{}
	name := filepath.Join(parent, "shims")
	if root := unified(); root != "" && !own.atRoot("") {
		if err := os.MkdirAll(root+name, 0o755); err != nil {
			return nil, err
		}
		if n.born, err = os.Open(root + name); err != nil {
			return nil, err
		}
	}
	systemd := cgroupTop + "/systemd"
	if own.atRoot("name=systemd") {
		return n, nil
	}
	err = os.MkdirAll(systemd+name, 0o755)
	n.procs = filepath.Join(systemd+name, "cgroup.procs")
	return n, err
}

// unified returns where the version 2 hierarchy is, "" if it is not.
func unified() string {
	for _, dir := range []string{cgroupTop, cgroupTop + "/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	return ""
}

// memberships are a process's groups, by hierarchy: the controllers as /proc/PID/cgroup has them, "" for version 2.
type memberships map[string]string

// atRoot tells whether the process is in the hierarchy's root, or the hierarchy is not there.
func (m memberships) atRoot(hierarchy string) bool { return m[hierarchy] == "" || m[hierarchy] == "/" }

func ownCgroups(file string) (memberships, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all := memberships{}
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s: line %q", file, line)
		}
		all[fields[1]] = fields[2]
	}
	return all, nil
}

// attributes adds to how a shim is made that it is born in the nest.
func (n *nest) attributes(a *syscall.SysProcAttr) {
	if n.born != nil {
		a.UseCgroupFD, a.CgroupFD = true, int(n.born.Fd())
	}
}

// move puts a shim that was just made into the nest, where it could not be born there.
func (n *nest) move(pid int) error {
	if n.procs == "" {
		return nil
	}
	err := os.WriteFile(n.procs, []byte(strconv.Itoa(pid)), 0)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("move a shim to its cgroup: %w", err)
	}
	return nil
}

// close lets go of the groups.
func (n *nest) close() {
	if n.born != nil {
		_ = n.born.Close()
	}
}

// removeEmpty removes the cgroups that containers and shims were in, if nothing is in them any more.
func removeEmpty(parent string) {
	tops, _ := filepath.Glob(cgroupTop + "/*")
	for _, top := range append(tops, cgroupTop) {
		_ = os.Remove(filepath.Join(top, parent, "shims"))
		_ = os.Remove(filepath.Join(top, parent))
	}
}
