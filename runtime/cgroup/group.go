package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-engine/berth/internal/plainfile"
	"golang.org/x/sys/unix"
)

// Group is one control group, in each hierarchy that it needs. Its methods may be called from several
// goroutines.
type Group struct {
	system *System
	name   string
	dirs   []dir
}

type dir struct {
	path  string
	mount *mounted // nil with version 2
}

// Name is the path below the roots of the hierarchies.
func (g *Group) Name() string { return g.name }

// controller is the group's directory for a controller; "" where the machine has none.
func (g *Group) controller(name string) string {
	for _, d := range g.dirs {
		if d.mount == nil || slices.Contains(d.mount.controllers, name) {
			return d.path
		}
	}
	return ""
}

// Create makes the group and its missing parents. What is there is used.
func (g *Group) Create() error {
	for _, d := range g.dirs {
		if err := g.make(d); err != nil {
			return fmt.Errorf("make cgroup %s: %w", d.path, err)
		}
	}
	return nil
}

func (g *Group) make(d dir) error {
	err := os.Mkdir(d.path, 0o755)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil {
			return err
		}
		if err = os.Mkdir(d.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case err != nil && !errors.Is(err, fs.ErrExist):
		return err
	}
	if d.mount == nil {
		return g.delegate()
	}
	if slices.Contains(d.mount.controllers, "cpuset") {
		return inheritCpuset(d.mount.dir, g.name)
	}
	return nil
}

// delegate switches the controllers on in each of the group's ancestors (cgroup-v2.rst, "Enabling and Disabling").
func (g *Group) delegate() error {
	at := g.system.root
	for part := range strings.SplitSeq(strings.TrimPrefix(filepath.Clean(g.name), "/"), "/") {
		if err := delegateIn(at); err != nil {
			return err
		}
		at = filepath.Join(at, part)
	}
	return nil
}

// delegateIn switches on what the group at a directory has for the groups below it.
func delegateIn(at string) error {
	available, err := plainfile.Read(filepath.Join(at, "cgroup.controllers"))
	if err != nil {
		return err
	}
	on, err := plainfile.Read(filepath.Join(at, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	var missing []string
	for _, c := range []string{"cpu", "cpuset", "io", "memory", "pids"} {
		if slices.Contains(strings.Fields(string(available)), c) && !slices.Contains(strings.Fields(string(on)), c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return write(at, "cgroup.subtree_control", strings.Join(missing, " "))
}

// inheritCpuset gives each group on the way its parent's processors and memory nodes: without any, nothing
// can be put into it (cpusets.rst).
func inheritCpuset(root, name string) error {
	at := root
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		child := filepath.Join(at, part)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			own, err := plainfile.Read(filepath.Join(child, file))
			if err != nil {
				return err
			}
			if strings.TrimSpace(string(own)) != "" {
				continue
			}
			parents, err := plainfile.Read(filepath.Join(at, file))
			if err != nil {
				return err
			}
			if err := write(child, file, strings.TrimSpace(string(parents))); err != nil {
				return err
			}
		}
		at = child
	}
	return nil
}

// Join opens what a process joins the group by.
func (g *Group) Join() (_ *Join, err error) {
	j := &Join{Version: g.system.version}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("join cgroup %s: %w", g.name, err), j.Close())
		}
	}()
	for _, d := range g.dirs {
		file := "tasks"
		if d.mount == nil {
			file = "cgroup.procs"
			j.Path = d.path
			if j.Dir, err = plainfile.Open(d.path, os.O_RDONLY, 0); err != nil {
				return nil, err
			}
		} else {
			options := d.mount.controllers
			if strings.HasPrefix(options[0], "name=") {
				options = append([]string{"none"}, options...)
			}
			j.Hierarchies = append(j.Hierarchies, Hierarchy{Name: filepath.Base(d.mount.dir), Options: options, Links: d.mount.links, Path: d.path})
		}
		f, err := plainfile.Open(filepath.Join(d.path, file), os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		j.Tasks = append(j.Tasks, f)
	}
	return j, nil
}

// write writes a control file; the error names it and what was written.
func write(dir, file, value string) error {
	path := filepath.Join(dir, file)
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		_, err := unix.Write(fd, []byte(value))
		if err == unix.EINTR { // freezing and memory.max can take a while
			continue
		}
		if err != nil {
			return fmt.Errorf("write %q to %s: %w", value, path, err)
		}
		return nil
	}
}

// procs lists the processes of the group and of the groups below it.
func procs(top string) ([]int, error) {
	var pids []int
	err := walk(top, func(dir string) error {
		f, err := plainfile.Open(filepath.Join(dir, "cgroup.procs"), os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			pid, err := strconv.Atoi(lines.Text())
			if err != nil {
				return fmt.Errorf("%s: %w", f.Name(), err)
			}
			if pid != 0 { // 0: of a pid namespace that is not seen from here
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}

// walk calls fn for the groups below top, and then for top. One that is not there is no error.
func walk(top string, fn func(dir string) error) error {
	entries, err := plainfile.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := walk(filepath.Join(top, e.Name()), fn); err != nil {
				return err
			}
		}
	}
	return fn(top)
}

// Procs lists the processes in the group, as this pid namespace has them.
func (g *Group) Procs() ([]int, error) {
	if len(g.dirs) == 0 {
		return nil, nil
	}
	at := g.controller("freezer")
	if at == "" {
		at = g.dirs[0].path
	}
	return procs(at)
}

// Freeze stops every process of the group where it stands, and returns when all do.
func (g *Group) Freeze(ctx context.Context) error { return g.freeze(ctx, true) }

// Thaw lets them go on.
func (g *Group) Thaw(ctx context.Context) error { return g.freeze(ctx, false) }

func (g *Group) freeze(ctx context.Context, frozen bool) error {
	at := g.controller("freezer")
	if at == "" {
		return fmt.Errorf("freeze cgroup %s: this machine has no freezer", g.name)
	}
	if g.system.version == 2 {
		value := map[bool]string{true: "1", false: "0"}[frozen]
		if err := write(at, "cgroup.freeze", value); err != nil {
			return err
		}
		return poll(ctx, func() (bool, error) { return fileHas(filepath.Join(at, "cgroup.events"), "frozen "+value) })
	}
	state := map[bool]string{true: "FROZEN", false: "THAWED"}[frozen]
	return poll(ctx, func() (bool, error) {
		// Written again each time: a process that forks while it is being frozen can leave the group
		// FREEZING for ever (as runc does it).
		if err := write(at, "freezer.state", state); err != nil {
			return false, err
		}
		return fileHas(filepath.Join(at, "freezer.state"), state)
	})
}

// Frozen says whether the group is frozen.
func (g *Group) Frozen() (bool, error) {
	at := g.controller("freezer")
	switch {
	case at == "":
		return false, nil
	case g.system.version == 2:
		return fileHas(filepath.Join(at, "cgroup.events"), "frozen 1")
	}
	return fileHas(filepath.Join(at, "freezer.state"), "FROZEN")
}

func fileHas(path, line string) (bool, error) {
	b, err := plainfile.Read(path)
	if err != nil {
		return false, err
	}
	for l := range strings.Lines(string(b)) {
		if strings.TrimSpace(l) == line {
			return true, nil
		}
	}
	return false, nil
}

// poll asks until done says yes, at first often. ctx ends it.
func poll(ctx context.Context, done func() (bool, error)) error {
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// Kill kills every process of the group and returns when none is left. None of them can escape by forking:
// version 2 kills the group as a whole, version 1 is frozen first.
func (g *Group) Kill(ctx context.Context) error {
	err := poll(ctx, func() (bool, error) {
		pids, err := g.Procs()
		if len(pids) == 0 || err != nil {
			return err == nil, err
		}
		return false, g.killOnce(ctx, pids)
	})
	if err != nil {
		return fmt.Errorf("kill cgroup %s: %w", g.name, err)
	}
	return nil
}

func (g *Group) killOnce(ctx context.Context, pids []int) error {
	if g.system.version == 2 {
		err := write(g.dirs[0].path, "cgroup.kill", "1")
		if !errors.Is(err, fs.ErrNotExist) { // before 5.14
			return err
		}
	}
	if at := g.controller("freezer"); at != "" {
		within, cancel := context.WithTimeout(ctx, time.Second)
		frozen := g.Freeze(within)
		cancel()
		defer func() { _ = g.Thaw(ctx) }() // a killed process ends when it thaws; the poll notices what stays
		if frozen == nil {
			var err error
			if pids, err = g.Procs(); err != nil {
				return err
			}
		}
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			return fmt.Errorf("kill %d: %w", pid, err)
		}
	}
	return nil
}

// Destroy removes the group, and those that were made below it, from every hierarchy. It waits for
// processes that are ending; nothing there is no error.
func (g *Group) Destroy(ctx context.Context) error {
	for _, top := range g.system.everywhere(g.name) {
		err := poll(ctx, func() (bool, error) {
			if err := unix.Rmdir(top); err == nil || err == unix.ENOENT { // nothing below it, nobody in it
				return true, nil
			}
			err := walk(top, func(dir string) error {
				if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
					return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
				}
				return nil
			})
			if errors.Is(err, unix.EBUSY) {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			return fmt.Errorf("remove cgroup %s: %w", top, err)
		}
	}
	return nil
}
