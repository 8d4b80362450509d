package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-engine/berth/internal/mountinfo"
	"github.com/berth-engine/berth/internal/plainfile"
	"golang.org/x/sys/unix"
)

// System is the control group file systems of a machine.
type System struct {
	version int
	root    string // of version 2
	v1      []mounted
}

// mounted is a version 1 hierarchy.
type mounted struct {
	dir         string
	controllers []string // "name=systemd" for a named one
	links       []string
}

// ErrNone is returned where no control groups are mounted.
var ErrNone = errors.New("no control groups are mounted at /sys/fs/cgroup")

// Find looks at what is mounted. Version 1 counts where it has controllers, also beside a version 2 tree
// without any (the "hybrid" layout of systemd).
func Find() (*System, error) {
	var st unix.Statfs_t
	const top = "/sys/fs/cgroup"
	if err := unix.Statfs(top, &st); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return &System{version: 2, root: top}, nil
	}
	mounts, err := plainfile.Read("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	s := &System{version: 1}
	for line := range strings.Lines(string(mounts)) {
		at, ok := mountinfo.Parse(line)
		if !ok || at.FSType != "cgroup" || !strings.HasPrefix(at.Path, top+"/") {
			continue
		}
		m := mounted{dir: at.Path}
		for _, o := range strings.Split(at.Options, ",") {
			if o != "rw" && o != "ro" && o != "none" && o != "xattr" && o != "clone_children" && !strings.HasPrefix(o, "release_agent=") {
				m.controllers = append(m.controllers, o)
			}
		}
		s.v1 = append(s.v1, m)
	}
	if len(s.v1) == 0 {
		return nil, ErrNone
	}
	return s, s.findLinks(top)
}

// findLinks notes "cpu -> cpu,cpuacct" and its like.
func (s *System) findLinks(top string) error {
	entries, err := plainfile.ReadDir(top)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type()&os.ModeSymlink == 0 {
			continue
		}
		to, err := filepath.EvalSymlinks(filepath.Join(top, e.Name()))
		if err != nil {
			continue // it leads nowhere
		}
		for i := range s.v1 {
			if s.v1[i].dir == to {
				s.v1[i].links = append(s.v1[i].links, e.Name())
			}
		}
	}
	return nil
}

// Version is 1 or 2.
func (s *System) Version() int { return s.version }

// always are the version 1 controllers that every group is made in: limits, statistics, freezing, devices.
// The others are joined only where a limit of theirs is asked for: each costs a directory and a join.
var always = []string{"memory", "pids", "cpu", "cpuacct", "freezer", "devices"}

// Group is the control group at name, a path below the root of the hierarchies ("/berth/ID"). more names
// version 1 controllers that it needs beside the usual ones. Nothing is made.
func (s *System) Group(name string, more ...string) (*Group, error) {
	clean := filepath.Clean("/" + name)
	if clean == "/" {
		return nil, fmt.Errorf("cgroup path %q: a container can't be in the root group", name)
	}
	g := &Group{system: s, name: clean}
	if s.version == 2 {
		g.dirs = []dir{{path: filepath.Join(s.root, clean)}}
		return g, nil
	}
	for i := range s.v1 {
		m := &s.v1[i]
		if slices.ContainsFunc(m.controllers, func(c string) bool { return slices.Contains(always, c) || slices.Contains(more, c) }) {
			g.dirs = append(g.dirs, dir{filepath.Join(m.dir, clean), m})
		}
	}
	return g, nil
}

// everywhere is the group in every hierarchy, for what must be found wherever it is.
func (s *System) everywhere(name string) []string {
	clean := filepath.Clean("/" + name)
	if s.version == 2 {
		return []string{filepath.Join(s.root, clean)}
	}
	var all []string
	for _, m := range s.v1 {
		all = append(all, filepath.Join(m.dir, clean))
	}
	return all
}
