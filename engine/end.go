package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/runtime"
	"github.com/containerd/errdefs"
)

// watch waits for a running container's end, and deals with it.
func (e *Engine) watch(ctx context.Context, c *instance, shim *runtime.Shim) {
	exit, err := shim.Wait(ctx)
	if ctx.Err() != nil {
		return // the engine ends; the container doesn't
	}
	if err != nil {
		e.log.Error("a container's shim was lost", "container", c.ID, "error", err)
		exit = runtime.Exit{Status: 137, At: time.Now(), Lost: true}
	}
	e.ended(ctx, c, exit)
}

// ended records how a container ended, gives back what it had while it ran, and then lets its policy
// speak: it is removed, started again, or stays as it is.
func (e *Engine) ended(ctx context.Context, c *instance, exit runtime.Exit) {
	release, err := c.Claim(ctx)
	if err != nil {
		return
	}
	c.stopHealth()
	if err := e.networks.Detach(ctx, c.ID); err != nil {
		e.log.Error("a container's network could not be taken down", "container", c.ID, "error", err)
	}
	c.letGo()
	cfg, was := c.Config(), c.State()
	delay, again := e.again(c, exit, was)
	removed := cfg.AutoRemove && !again
	end := func(s *container.State) {
		s.Status, s.Pid, s.ExitCode, s.OOMKilled, s.FinishedAt, s.Error = container.Exited, 0, exit.Status, exit.OOMKilled, exit.At.UTC(), ""
		if again {
			s.Status, s.RestartCount, s.NextRestart = container.Restarting, s.RestartCount+1, time.Now().Add(delay)
		}
	}
	if removed {
		c.Pass(end)
	} else if err := c.Update(atomicfile.Durable, end); err != nil {
		e.log.Error("the record of a container that ended could not be written", "container", c.ID, "error", err)
	}
	if exit.OOMKilled {
		e.event(c, "oom", nil)
	}
	e.event(c, "die", map[string]string{"exitCode": fmt.Sprint(exit.Status), "execDuration": fmt.Sprint(int(exit.At.Sub(was.StartedAt).Seconds()))})
	release()
	switch {
	case removed:
		if err := e.remove(ctx, c, RemoveOptions{Volumes: true}); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			e.log.Error("a container could not be removed at its end", "container", c.ID, "error", err)
		}
	case again:
		e.restartAfter(c, delay)
	}
}

// again asks the policy.
func (e *Engine) again(c *instance, exit runtime.Exit, was container.State) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := was
	now.ExitCode = exit.Status
	delay, again := c.Config().Restart.Next(now, exit.At.Sub(was.StartedAt), c.lastDelay)
	c.lastDelay = delay
	return delay, again
}

// restartAfter starts a container again after its delay, unless somebody stops it meanwhile.
func (e *Engine) restartAfter(c *instance, delay time.Duration) {
	ctx, cancel := context.WithTimeout(e.life, delay)
	c.mu.Lock()
	c.endWait = cancel
	c.mu.Unlock()
	e.work.Go(func() {
		<-ctx.Done()
		c.mu.Lock()
		c.endWait = nil
		c.mu.Unlock()
		cancel()
		if e.life.Err() != nil || c.State().Status != container.Restarting {
			return
		}
		if _, err := e.start(e.life, c, nil, byPolicy); err != nil && !errdefs.IsNotModified(err) {
			e.log.Error("a container could not be started again", "container", c.ID, "error", err)
		}
	})
}

// Stop asks a container to end and kills it when it has not after timeout (nil: its own). A container
// that is not running is errdefs.ErrNotModified. sig "" is the container's own signal.
func (e *Engine) Stop(ctx context.Context, user, sig string, timeout *int) error {
	c, err := e.find(user)
	if err != nil {
		return err
	}
	// Whoever asked may go: what was begun with a signal is brought to its end.
	return describe(c, "cannot stop container", e.stop(context.WithoutCancel(ctx), c, sig, timeout))
}

// StopForShutdown is Stop because the machine goes down: the next engine starts the container again where its policy says
// so.
func (e *Engine) StopForShutdown(ctx context.Context, user, sig string, timeout *int) error {
	c, err := e.find(user)
	if err != nil {
		return err
	}
	if err := e.Stop(ctx, c.ID, sig, timeout); err != nil || c.Config().AutoRemove {
		return err
	}
	err = c.Update(atomicfile.Durable, func(s *container.State) { s.Shutdown = true })
	return describe(c, "cannot note that the machine goes down", err)
}

func (e *Engine) stop(ctx context.Context, c *instance, name string, timeout *int) error {
	cfg := c.Config()
	if name == "" {
		name = cfg.Process.StopSignal
	}
	sig := syscall.SIGTERM
	if name != "" {
		var err error
		if sig, err = ParseSignal(name); err != nil {
			return err
		}
	}
	wait := cfg.StopTimeout()
	if timeout != nil {
		wait = time.Duration(*timeout) * time.Second
	}
	e.noMore(c)
	ended, cancel := c.Wait(container.NotRunning)
	defer cancel()
	if err := e.signal(ctx, c, sig, false); err != nil {
		if errdefs.IsConflict(err) {
			return errdefs.ErrNotModified
		}
		return err
	}
	if err := e.thaw(ctx, c); err != nil {
		return err
	}
	var patience <-chan time.Time
	if wait >= 0 { // a negative timeout waits without end
		t := time.NewTimer(wait)
		defer t.Stop()
		patience = t.C
	}
	for {
		select {
		case <-ended:
			e.event(c, "stop", nil)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-patience:
			patience = nil
			if err := e.signal(ctx, c, syscall.SIGKILL, false); err != nil && !errdefs.IsConflict(err) {
				return err
			}
		}
	}
}

// noMore makes it durable that a user stopped the container, before any signal is sent, and ends the
// wait for a restart. A disk that takes no record keeps nobody from stopping: the state counts as long
// as the engine runs.
func (e *Engine) noMore(c *instance) {
	if c.Config().Restart.Name == "" || c.Config().Restart.Name == "no" {
		return
	}
	c.mu.Lock()
	if c.endWait != nil {
		c.endWait()
	}
	c.mu.Unlock()
	err := c.Update(atomicfile.Durable, func(s *container.State) {
		s.StoppedByUser, s.Shutdown = true, false
		if s.Status == container.Restarting {
			s.Status = container.Exited
		}
	})
	if err != nil {
		e.log.Error("that a container was stopped by its user could not be written: the next engine may start it again", "container", c.ID, "error", err)
	}
}

// Kill sends a signal ("" is KILL). A container that is not running is errdefs.ErrConflict.
func (e *Engine) Kill(ctx context.Context, user, name string) error {
	c, err := e.find(user)
	if err != nil {
		return err
	}
	sig := syscall.SIGKILL
	if name != "" {
		if sig, err = ParseSignal(name); err != nil {
			return err
		}
	}
	if sig == syscall.SIGKILL {
		e.noMore(c)
	}
	if err := e.signal(ctx, c, sig, false); err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", user, err)
	}
	if c.endsBy(sig) {
		if err := e.thaw(ctx, c); err != nil {
			return fmt.Errorf("cannot kill container: %s: %w", user, err)
		}
	}
	e.event(c, "kill", map[string]string{"signal": fmt.Sprint(int(sig))})
	return nil
}

// signalTime is how long a shim may take to send a signal: one that takes it is stopped, or hangs.
const signalTime = 10 * time.Second

var errHangs = fmt.Errorf("the process that keeps it does not answer: remove it by force, that ends both: %w", context.DeadlineExceeded)

func (e *Engine) signal(ctx context.Context, c *instance, sig syscall.Signal, everyone bool) error {
	shim, err := c.running()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, signalTime, errHangs)
	defer cancel()
	err = shim.Signal(ctx, int(sig), everyone)
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("container %s is not running: %w", c.ID, errdefs.ErrConflict)
	}
	return err
}

// Restart stops a container, if it runs, and starts it.
func (e *Engine) Restart(ctx context.Context, user, sig string, timeout *int) error {
	ctx = context.WithoutCancel(ctx) // who asked may go; it is not to stay stopped
	c, err := e.find(user)
	if err != nil {
		return err
	}
	// AutoRemove must not take it in between.
	if c.Config().AutoRemove && c.State().Status.Active() {
		return fmt.Errorf("cannot restart container %s: it is removed when it ends (--rm): %w", c.Name(), errdefs.ErrConflict)
	}
	if err := e.stop(ctx, c, sig, timeout); err != nil && !errdefs.IsNotModified(err) {
		return describe(c, "cannot restart container", err)
	}
	if _, err := e.start(ctx, c, nil, byUser); err != nil && !errdefs.IsNotModified(err) {
		return err
	}
	e.event(c, "restart", nil)
	return nil
}

// Wait registers a waiter at once; the channel brings how the container ended.
func (e *Engine) Wait(user string, condition container.Condition) (<-chan container.Ended, func(), error) {
	c, err := e.find(user)
	if err != nil {
		return nil, nil, err
	}
	switch condition {
	case "":
		condition = container.NotRunning
	case container.NotRunning, container.NextExit, container.Removed:
	default:
		return nil, nil, fmt.Errorf("invalid condition: %q: %w", condition, errdefs.ErrInvalidArgument)
	}
	done, cancel := c.Wait(condition)
	return done, cancel, nil
}

// Pause freezes a container's processes. Its health checks wait: one that is running is given up before, so that
// nothing freezes half-way into the container.
func (e *Engine) Pause(ctx context.Context, user string) error {
	pause := func(ctx context.Context, c *instance, shim *runtime.Shim) error {
		select {
		case <-c.stopHealth():
		case <-ctx.Done():
			e.resumeHealth(c, shim)
			return context.Cause(ctx)
		}
		err := shim.Pause(ctx)
		if err != nil {
			e.resumeHealth(c, shim)
		}
		return err
	}
	return e.freeze(ctx, user, pause, container.Running, container.Paused, "pause")
}

// Unpause thaws them.
func (e *Engine) Unpause(ctx context.Context, user string) error {
	resume := func(ctx context.Context, c *instance, shim *runtime.Shim) error {
		err := shim.Resume(ctx)
		if err == nil {
			e.resumeHealth(c, shim)
		}
		return err
	}
	return e.freeze(ctx, user, resume, container.Paused, container.Running, "unpause")
}

func (e *Engine) freeze(ctx context.Context, user string, do func(context.Context, *instance, *runtime.Shim) error, from, to container.Status, action string) error {
	c, err := e.find(user)
	if err != nil {
		return err
	}
	release, err := c.Claim(ctx)
	if err != nil {
		return err
	}
	defer release()
	shim, err := c.running()
	if err != nil {
		return err
	}
	if s := c.State().Status; s != from {
		return fmt.Errorf("container %s is %s: %w", c.Name(), s, errdefs.ErrConflict)
	}
	if err := do(ctx, c, shim); err != nil {
		return describe(c, action, err)
	}
	e.event(c, action, nil)
	if err := c.Update(atomicfile.Volatile, func(s *container.State) { s.Status = to }); err != nil {
		e.log.Error("the record of a container could not be written", "container", c.ID, "after", action, "error", err)
	}
	return nil
}

// thaw lets a frozen container take the signal that it was sent to end it: frozen, it never would.
func (e *Engine) thaw(ctx context.Context, c *instance) error {
	if c.State().Status != container.Paused {
		return nil
	}
	err := e.Unpause(ctx, c.ID)
	if errdefs.IsConflict(err) || errdefs.IsNotFound(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil // it has ended, and its cgroup with it
	}
	return err
}

// endsBy tells whether the signal is meant to end the container: KILL, its own stop signal, or any where it has no
// stop signal of its own (as Docker sees it).
func (c *instance) endsBy(sig syscall.Signal) bool {
	own := c.Config().Process.StopSignal
	if own == "" || sig == syscall.SIGKILL {
		return true
	}
	parsed, err := ParseSignal(own)
	return err == nil && parsed == sig
}
