package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/deeptree"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// RemoveOptions say what goes with a container.
type RemoveOptions struct {
	Force   bool // kill it where it runs
	Volumes bool // its anonymous volumes go too
}

// Remove removes a container. A running one is errdefs.ErrConflict without Force.
func (e *Engine) Remove(ctx context.Context, user string, o RemoveOptions) error {
	c, err := e.find(user)
	if err != nil {
		return err
	}
	if c.Config().AutoRemove && !o.Volumes { // whoever comes first takes all
		o.Volumes = true
	}
	gone, cancel := c.Wait(container.Removed)
	defer cancel()
	for {
		if c.State().Status.Active() || c.State().Status == container.Restarting {
			if !o.Force {
				return fmt.Errorf("cannot remove container %q: container is %s: stop the container before removing or force remove: %w", "/"+c.Name(), c.State().Status, errdefs.ErrConflict)
			}
			if err := e.kill(ctx, c); err != nil {
				return fmt.Errorf("could not kill container %s before it is removed: %w", c.Name(), err)
			}
		}
		err := e.remove(ctx, c, o)
		switch {
		case !o.Force || err == nil:
			return err
		case errors.Is(err, errStarted):
		case errors.Is(err, errRemoving) && c.Config().AutoRemove: // at its end, by itself
			select {
			case <-gone:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		default:
			return err
		}
	}
}

var (
	// errStarted says that a container was started between a look at it and its removal.
	errStarted = errdefs.ErrConflict.WithMessage("it was started meanwhile")
	// errRemoving says that somebody else removes it, or has.
	errRemoving = errdefs.ErrConflict.WithMessage("it is already in progress")
)

// kill ends a container and waits until that has been dealt with.
func (e *Engine) kill(ctx context.Context, c *instance) error {
	ended, cancel := c.Wait(container.NotRunning)
	defer cancel()
	e.noMore(c)
	err := e.signal(ctx, c, syscall.SIGKILL, true)
	switch {
	case errors.Is(err, errHangs):
		err = e.endRuntime(ctx, c)
	case errdefs.IsConflict(err):
		err = e.endLost(ctx, c)
	case err == nil:
		err = e.thaw(ctx, c)
	}
	if err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// endRuntime ends a container whose shim does not do it, and the shim; whoever waits for the end then hears of it.
func (e *Engine) endRuntime(ctx context.Context, c *instance) error {
	return e.runtime.Destroy(context.WithoutCancel(ctx), c.ID, e.store.ExecDir(c.ID), e.cgroupPath(c))
}

// endLost ends a container that may run, but could not be found when the engine started (recover.go). One that is
// just being dealt with, because it has ended, is left to that.
func (e *Engine) endLost(ctx context.Context, c *instance) error {
	release, err := c.Claim(ctx)
	if err != nil {
		return err
	}
	defer release()
	if _, err := c.running(); err == nil || !c.State().Status.Active() {
		return nil
	}
	return e.endRuntime(ctx, c)
}

// remove takes a container that does not run out of the world. It is out of sight, its name free and
// its record gone, before its data is deleted, which happens in the background.
func (e *Engine) remove(ctx context.Context, c *instance, o RemoveOptions) error {
	release, err := c.Claim(ctx)
	if err != nil {
		return err
	}
	defer release()
	switch s := c.State().Status; {
	case s == container.Removing:
		return fmt.Errorf("removal of container %s: %w", c.Name(), errRemoving)
	case s.Active():
		return fmt.Errorf("remove container %s: %w", c.Name(), errStarted)
	}
	removing := func(s *container.State) { s.Status = container.Removing }
	if c.Config().AutoRemove {
		c.Pass(removing)
	} else if err := c.Update(atomicfile.Volatile, removing); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("remove container %s: %w", c.Name(), err)
	}
	if err := e.destroy(ctx, c.ID, c.Discard); err != nil {
		_ = c.Update(atomicfile.Volatile, func(s *container.State) { s.Status, s.Error = container.Dead, err.Error() })
		return fmt.Errorf("remove container %s: %w", c.Name(), err)
	}
	e.forget(c)
	e.execs.forget(c.ID)
	c.serve(ctx, nil, nil) // who attached before a start that never came
	e.dropVolumes(context.WithoutCancel(ctx), c, o)
	e.dropImage(c)
	e.event(c, "destroy", nil)
	c.Gone()
	return nil
}

// dropImage collects, in the background, what was kept only for this container: its image was removed
// while it was there.
func (e *Engine) dropImage(c *instance) {
	e.background(func(ctx context.Context) {
		cfg := c.Config()
		if _, err := e.images.Get(cfg.ImageID); !errdefs.IsNotFound(err) {
			return
		}
		e.drop("what a removed container had of a removed image stays on the disk", append([]digest.Digest{cfg.ImageID}, cfg.Layers...))
	})
}

// dropVolumes removes the anonymous volumes that only this container used.
func (e *Engine) dropVolumes(ctx context.Context, c *instance, o RemoveOptions) {
	if !o.Volumes {
		return
	}
	for _, m := range c.Config().Mounts {
		if m.Kind != container.VolumeMount || !m.Anonymous {
			continue
		}
		if err := e.RemoveVolume(ctx, m.Source, false); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			e.log.Warn("an anonymous volume could not be removed with its container", "volume", m.Source, "container", c.ID, "error", err)
		}
	}
}

// Destroy deletes whatever is there of a container with this ID that nobody has any more: processes,
// cgroup, network, mounts, directories. It can be called for any ID at any time, and again.
func (e *Engine) Destroy(ctx context.Context, id string) error {
	return e.destroy(ctx, id, func(trash string) error { return e.store.Discard(id, trash) })
}

func (e *Engine) destroy(ctx context.Context, id string, discard func(trash string) error) error {
	ctx = context.WithoutCancel(ctx) // half a removal is worse than a late one
	dir := e.store.ExecDir(id)
	err := errors.Join(
		e.runtime.Destroy(ctx, id, dir, e.cgroupOf(id)),
		e.networks.Detach(ctx, id),
	)
	if err != nil {
		return err
	}
	if err := discard(e.trash()); err != nil {
		return err
	}
	e.deleteTrash(id)
	return nil
}

// trash is where the data of removed containers waits to be deleted.
func (e *Engine) trash() string { return filepath.Join(e.opts.DataRoot, "trash") }

// deleteTrash deletes the data of removed containers in the background.
func (e *Engine) deleteTrash(ids ...string) {
	e.background(func(ctx context.Context) {
		for _, id := range ids {
			if err := deeptree.RemoveContext(ctx, filepath.Join(e.trash(), id)); err != nil && ctx.Err() == nil {
				e.log.Warn("the data of a removed container could not be deleted, the next start tries again", "container", id, "error", err)
			}
		}
	})
}

// emptyTrash deletes what an earlier engine left there. The directory itself stays: a removal may be
// moving something into it.
func (e *Engine) emptyTrash() error {
	left, err := os.ReadDir(e.trash())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var ids []string
	for _, entry := range left {
		ids = append(ids, entry.Name())
	}
	e.deleteTrash(ids...)
	return nil
}

// cgroupOf is where a container would be if it runs; "" where nobody knows of it.
func (e *Engine) cgroupOf(id string) string {
	e.mu.Lock()
	c := e.containers[id]
	e.mu.Unlock()
	if c == nil {
		return ""
	}
	return e.cgroupPath(c)
}
