package runtime

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-engine/berth/runtime/cgroup"
)

// cgroupOf returns the cgroup of a container: that of its specification, else one of the launcher's.
func (l *Launcher) cgroupOf(spec *specs.Spec, id string) string {
	if spec != nil && spec.Linux != nil && spec.Linux.CgroupsPath != "" {
		return spec.Linux.CgroupsPath
	}
	return l.cgroupOr("", id)
}

// cgroupOr returns the cgroup of that name, without one the usual one of a container.
func (l *Launcher) cgroupOr(name, id string) string {
	if name != "" {
		return name
	}
	return filepath.Join(l.opts.CgroupParent, id)
}

// group returns the cgroup of that name.
func (l *Launcher) group(name string) (*cgroup.Group, error) {
	system, err := l.cgroups()
	if err != nil {
		return nil, err
	}
	return system.Group(name)
}

// killGroup kills what is in the cgroup, and waits until nothing is.
func (l *Launcher) killGroup(ctx context.Context, name string) error {
	g, err := l.group(name)
	if errors.Is(err, cgroup.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	return g.Kill(ctx)
}

func (l *Launcher) removeGroup(ctx context.Context, name string) error {
	g, err := l.group(name)
	if errors.Is(err, cgroup.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	return g.Destroy(ctx)
}

// Pause freezes every process of the container.
func (s *Shim) Pause(ctx context.Context) error {
	return s.withGroup(func(g *cgroup.Group) error { return g.Freeze(ctx) })
}

// Resume thaws them.
func (s *Shim) Resume(ctx context.Context) error {
	return s.withGroup(func(g *cgroup.Group) error { return g.Thaw(ctx) })
}

// Update changes the container's limits.
func (s *Shim) Update(_ context.Context, r *specs.LinuxResources) error {
	return s.withGroup(func(g *cgroup.Group) error { return g.Set(r) })
}

// Stats reads the container's counters.
func (s *Shim) Stats() (stats cgroup.Stats, err error) {
	err = s.withGroup(func(g *cgroup.Group) error {
		stats, err = g.Stats()
		return err
	})
	return stats, err
}

// Pids lists the processes of the container, in the engine's pid namespace. They are for showing, never for
// sending signals.
func (s *Shim) Pids() (pids []int, err error) {
	err = s.withGroup(func(g *cgroup.Group) error {
		pids, err = g.Procs()
		return err
	})
	return pids, err
}

func (s *Shim) withGroup(do func(*cgroup.Group) error) error {
	g, err := s.launcher.group(s.cgroup)
	if err == nil {
		err = do(g)
	}
	if err != nil {
		return fmt.Errorf("container %s: %w", s.id, err)
	}
	return nil
}
