package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/berth-engine/berth/runtime/cgroup"
)

// nest is where shims live: a cgroup beside those of the containers, outside of the engine's. What stops or kills the
// engine's unit as a whole (systemctl stop, kill) must not reach them.
type nest struct {
	group *cgroup.Group
	dir   *os.File // version 2: they are born there
	procs []string // version 1: files that they are written into, of the hierarchies in which the engine is in a group
}

// newNest makes the cgroup, where the engine is in one itself; nil where it is in none, or there are none.
func newNest(parent string) (*nest, error) {
	system, err := cgroup.Find()
	if errors.Is(err, cgroup.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	own, err := ownCgroups("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(own, func(m membership) bool { return m.path != "/" }) {
		return nil, nil
	}
	g, err := system.Group(filepath.Join(parent, "shims"), "name=systemd")
	if err != nil {
		return nil, err
	}
	if err := g.Create(); err != nil {
		return nil, err
	}
	join, err := g.Join()
	if err != nil {
		return nil, err
	}
	n := &nest{group: g}
	if system.Version() == 2 {
		n.dir, join.Dir = join.Dir, nil
	}
	for _, h := range join.Hierarchies {
		if inGroup(own, h) {
			n.procs = append(n.procs, filepath.Join(h.Path, "cgroup.procs"))
		}
	}
	return n, join.Close()
}

// inGroup tells whether the engine is in a group of this hierarchy, below its root.
func inGroup(own []membership, h cgroup.Hierarchy) bool {
	return slices.ContainsFunc(own, func(m membership) bool {
		return m.path != "/" && slices.ContainsFunc(m.controllers, func(c string) bool { return slices.Contains(h.Options, c) })
	})
}

// membership is a line of /proc/PID/cgroup.
type membership struct {
	controllers []string // empty: version 2
	path        string
}

func ownCgroups(file string) (all []membership, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s: line %q", file, line)
		}
		m := membership{path: fields[2]}
		if fields[1] != "" {
			m.controllers = strings.Split(fields[1], ",")
		}
		all = append(all, m)
	}
	return all, nil
}

// attributes adds to how a shim is made that it is born in the nest.
func (n *nest) attributes(a *syscall.SysProcAttr) {
	if n != nil && n.dir != nil {
		a.UseCgroupFD, a.CgroupFD = true, int(n.dir.Fd())
	}
}

// move puts a shim that was just made into the nest, where it could not be born there.
func (n *nest) move(pid int) error {
	if n == nil {
		return nil
	}
	for _, file := range n.procs {
		err := os.WriteFile(file, []byte(strconv.Itoa(pid)), 0)
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("move a shim to its cgroup: %w", err)
		}
	}
	return nil
}

// close removes the cgroup if no shim is left.
func (n *nest) close(l *Launcher) error {
	if n == nil {
		return nil
	}
	if n.dir != nil {
		_ = n.dir.Close()
	}
	pids, err := n.group.Procs()
	if len(pids) > 0 || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, n.group.Destroy(l.ctx))
}
