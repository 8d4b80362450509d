package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/network"
	"github.com/berth-engine/berth/runtime"
	"github.com/containerd/errdefs"
)

// recover finds what the engine before this one left: containers that run are taken over, those that
// ended meanwhile get their exit recorded, what was half-made is destroyed, and then policies say what
// is started again.
func (e *Engine) recover(ctx context.Context) error {
	if err := os.MkdirAll(e.tempDir(), 0o700); err != nil {
		return err
	}
	if err := e.emptyTrash(); err != nil {
		return err
	}
	records, strays, err := e.store.Load()
	if err != nil {
		e.damaged = true
		e.log.Error("records of containers could not be read; nothing that they may need is deleted", "error", err)
	}
	var (
		live    []network.Live
		ended   = map[*instance]runtime.Exit{}
		missing = map[*instance]bool{}
	)
	for _, r := range records {
		e.containers[r.ID], e.names[r.Name] = &instance{Container: container.New(e.store, *r)}, r.ID
	}
	for c, f := range e.findAll(ctx) {
		shim, exit := f.shim, f.exit
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case f.err != nil: // it may well run: it keeps what it has
			e.log.Error("a container could not be found again; it is left as it is, and looked for", "container", c.ID, "error", f.err)
			live, missing[c] = append(live, network.Live{ContainerID: c.ID}), true
		case shim != nil:
			l, err := liveNetwork(shim)
			if err != nil {
				return err
			}
			live = append(live, l)
			c.mu.Lock()
			c.shim = shim
			c.mu.Unlock()
		case exit != nil:
			ended[c] = *exit
		}
	}
	err = e.networks.Recover(ctx, live)
	for _, l := range live {
		if l.NS != nil {
			l.NS.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("recover networks: %w", err)
	}
	inParallel(strays, func(id string) {
		if err := e.Destroy(ctx, id); err != nil {
			e.log.Error("what is left of a container could not be removed", "container", id, "error", err)
		}
	})
	if err := e.sweep(); err != nil {
		return err
	}
	for _, c := range e.all() {
		if missing[c] {
			e.background(func(ctx context.Context) { e.seek(ctx, c) })
			continue
		}
		e.settle(ctx, c, ended)
	}
	return nil
}

// found is what reconnect says.
type found struct {
	shim *runtime.Shim
	exit *runtime.Exit
	err  error
}

// findAll reconnects to all containers, several at once: one that does not answer holds up no other.
func (e *Engine) findAll(ctx context.Context) map[*instance]found {
	var (
		mu  sync.Mutex
		all = map[*instance]found{} // guarded by mu
	)
	inParallel(e.all(), func(c *instance) {
		shim, exit, err := e.reconnect(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		all[c] = found{shim, exit, err}
	})
	return all
}

// inParallel does the same for each of a list, several at once, and waits for all: what takes long holds up no other.
func inParallel[T any](list []T, do func(T)) {
	var work sync.WaitGroup
	room := make(chan struct{}, 32)
	for _, one := range list {
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			do(one)
		})
	}
	work.Wait()
}

// seekAgain is the pause between two tries to find a container that does not answer.
const seekAgain = time.Second

// seek looks for a container that could not be found when the engine started, until it is.
func (e *Engine) seek(ctx context.Context, c *instance) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(seekAgain):
		}
		shim, exit, err := e.reconnect(ctx, c)
		switch {
		case err != nil:
			continue
		case shim == nil && exit == nil: // somebody has removed it
			return
		case exit != nil:
			e.settle(ctx, c, map[*instance]runtime.Exit{c: *exit})
			return
		}
		release, err := c.Claim(ctx)
		if err != nil {
			return
		}
		defer release()
		c.mu.Lock()
		c.shim = shim
		c.mu.Unlock()
		e.settle(ctx, c, nil)
		return
	}
}

// reconnect finds a container's shim, or how the container ended; neither where it has not been started
// since it was last seen to end.
func (e *Engine) reconnect(ctx context.Context, c *instance) (*runtime.Shim, *runtime.Exit, error) {
	s := c.State()
	shim, err := e.runtime.Reconnect(ctx, c.ID, e.store.ExecDir(c.ID), e.cgroupPath(c))
	var ended *runtime.EndedError
	switch {
	case err == nil:
		return shim, nil, nil
	case errors.As(err, &ended) && ended.Exit != nil:
		if !s.Status.Active() && !ended.Exit.At.After(s.FinishedAt) {
			return nil, nil, nil // known
		}
		return nil, ended.Exit, nil
	case errors.As(err, &ended) || errdefs.IsNotFound(err):
		if s.Status.Active() { // the machine went down under it
			return nil, &runtime.Exit{Status: 255, At: time.Now(), Lost: true}, nil
		}
		return nil, nil, nil
	}
	return nil, nil, err
}

func liveNetwork(shim *runtime.Shim) (network.Live, error) {
	l := network.Live{ContainerID: shim.ID()}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", shim.Pid()))
	if errors.Is(err, os.ErrNotExist) {
		return l, nil // it ends just now
	}
	l.NS = ns
	return l, err
}

// settle brings a container that was found to where it belongs.
func (e *Engine) settle(ctx context.Context, c *instance, ended map[*instance]runtime.Exit) {
	if shim, err := c.running(); err == nil {
		err := c.Update(atomicfile.Volatile, func(s *container.State) {
			if s.Status != container.Paused {
				s.Status = container.Running
			}
			s.Pid, s.StartedAt = shim.Pid(), shim.Started().UTC()
		})
		if err != nil {
			e.log.Error("the record of a running container could not be written", "container", c.ID, "error", err)
		}
		e.took(c, shim)
		return
	}
	if exit, ok := ended[c]; ok {
		was := c.State().StartedAt
		c.Note(func(s *container.State) { // a start that the record had not yet heard of
			s.Status = container.Running
			if was.IsZero() {
				s.StartedAt = exit.At.UTC()
			}
		})
		e.ended(ctx, c, exit)
		return
	}
	switch s := c.State(); {
	case s.Status == container.Restarting:
		e.restartAfter(c, max(time.Until(s.NextRestart), 0))
	case s.Status.Leaving():
		c.Note(func(s *container.State) { s.Status = container.Exited })
		if err := e.remove(ctx, c, RemoveOptions{Volumes: c.Config().AutoRemove}); err != nil {
			e.log.Error("a removal that was cut short could not be ended", "container", c.ID, "error", err)
		}
	case c.Config().Restart.AtEngineStart(s):
		c.Note(func(s *container.State) { s.Status, s.StoppedByUser = container.Restarting, false }) // of the engine before
		e.restartAfter(c, 0)
	case s.Status == container.Running:
		c.Note(func(s *container.State) { s.Status = container.Exited })
	}
}

// tempDir is for what is spooled; it is on the data root's disk.
func (e *Engine) tempDir() string { return filepath.Join(e.opts.DataRoot, "tmp") }
