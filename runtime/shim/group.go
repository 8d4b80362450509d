package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-engine/berth/runtime/cgroup"
)

// patience is how long killed processes and their cgroup may take to go. What stays longer hangs in the kernel; the
// exit is reported all the same, and Launcher.Destroy tries again.
const patience = 10 * time.Second

// group is the container's cgroup.
type group struct {
	*cgroup.Group
	oomBefore uint64 // kills before the container started: the group may have been used before
}

// newGroup makes the cgroup of that name, with the limits of r.
func (m *machine) newGroup(ctx context.Context, name string, r *specs.LinuxResources) (*group, error) {
	system, err := m.cgroups()
	if err != nil {
		return nil, err
	}
	g, err := system.Group(name, cgroup.More(r)...)
	if err != nil {
		return nil, err
	}
	if err := g.Create(); err != nil {
		return nil, errors.Join(err, g.Destroy(ctx))
	}
	return &group{Group: g}, nil
}

// limit sets the container's limits.
func (g *group) limit(r *specs.LinuxResources) (err error) {
	if r != nil {
		err = g.Set(r)
	}
	g.oomBefore, _ = g.OOMKills() // a machine without the memory controller kills nothing by it
	return err
}

// oomKilled tells whether the kernel killed something of the container for want of memory.
func (g *group) oomKilled() bool {
	n, err := g.OOMKills()
	return err == nil && n > g.oomBefore
}

// killAll kills what is left in the cgroup.
func (g *group) killAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return g.Kill(ctx)
}

// release thaws what was killed while it was frozen: with version 1, it does not end before
// (freezer-subsystem.rst). A failure is seen by the process staying, as with a kill that did nothing.
func (g *group) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = g.Thaw(ctx) // of a group that is not frozen a write that does nothing; it may be gone already
}

// promptly is how long the removal of a cgroup usually takes at most: a few calls, the kernel may still be busy with
// those that were in it.
const promptly = 50 * time.Millisecond

// remove removes the cgroup, and tries again for so long.
func (g *group) remove(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return g.Destroy(ctx)
}

// signal sends sig to every process in the cgroup. A pid that was listed is signalled only if it is still listed
// when a descriptor of its process is open: then that is the process that was meant.
func (g *group) signal(ctx context.Context, sig unix.Signal) error {
	if sig == unix.SIGKILL {
		return g.killAll(ctx)
	}
	pids, err := g.Procs()
	if err != nil {
		return err
	}
	var fds []*os.File
	defer func() {
		for _, f := range fds {
			_ = f.Close()
		}
	}()
	for i, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil { // it has ended
			pids[i] = 0
			continue
		}
		fds = append(fds, os.NewFile(uintptr(fd), "pidfd"))
	}
	pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == 0 })
	still, err := g.Procs()
	if err != nil {
		return err
	}
	for i, pid := range pids {
		if !slices.Contains(still, pid) {
			continue
		}
		if err := signalTo(fds[i], sig); err != nil && !errors.Is(err, errEnded) {
			return fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return nil
}
