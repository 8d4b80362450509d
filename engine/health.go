package engine

import (
	"context"
	"errors"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/runtime"
)

// watchHealth begins a container's health checks, which go on until it ends, or the engine does. While it is
// paused there are none (moby, daemon/health.go "updateHealthMonitor").
func (e *Engine) watchHealth(c *instance, shim *runtime.Shim) {
	if !c.Config().Healthcheck.Enabled() {
		return
	}
	c.Note(func(s *container.State) { s.Health = &container.Health{Status: container.Starting} })
	if c.State().Status != container.Paused {
		e.resumeHealth(c, shim)
	}
}

// resumeHealth goes on with the health checks where they were.
func (e *Engine) resumeHealth(c *instance, shim *runtime.Shim) {
	h := c.Config().Healthcheck
	if !h.Enabled() {
		return
	}
	from := container.Health{Status: container.Starting}
	if was := c.State().Health; was != nil {
		from = *was
	}
	command := h.Command(e.shellOf(c))
	ctx, cancel := context.WithCancel(e.life)
	ended := make(chan struct{})
	c.mu.Lock()
	c.endHealth = func() <-chan struct{} {
		cancel()
		return ended
	}
	c.mu.Unlock()
	e.work.Go(func() {
		defer close(ended)
		h.Watch(ctx, from, shim.Started(),
			func(ctx context.Context) container.Probe { return e.probe(ctx, c, shim, command, h.ProbeTimeout()) },
			func(now container.Health) {
				var was string
				c.Note(func(s *container.State) {
					if s.Health != nil {
						was = s.Health.Status
					}
					s.Health = &now
				})
				if was != now.Status {
					e.event(c, "health_status: "+now.Status, nil)
				}
			})
	})
}

// stopHealth ends the health checks. The channel is closed when the last one has ended.
func (c *instance) stopHealth() (ended <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endHealth == nil {
		none := make(chan struct{})
		close(none)
		return none
	}
	ended, c.endHealth = c.endHealth(), nil
	return ended
}

// probe runs the check once. It dies with its context, and with the engine.
func (e *Engine) probe(ctx context.Context, c *instance, shim *runtime.Shim, command []string, timeout time.Duration) container.Probe {
	p := container.Probe{Start: time.Now().UTC(), ExitCode: -1}
	out := &bounded{max: container.ProbeOutputMax}
	exit, err := e.runProbe(ctx, c, shim, command, out)
	p.End = time.Now().UTC()
	p.Output = string(out.kept)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		p.Output = "Health check exceeded timeout (" + timeout.String() + ")"
	case err != nil:
		p.Output = err.Error()
	default:
		p.ExitCode = exit.Status
	}
	return p
}

func (e *Engine) runProbe(ctx context.Context, c *instance, shim *runtime.Shim, command []string, out *bounded) (runtime.Exit, error) {
	process, err := e.execProcess(ctx, c, shim, ExecConfig{Cmd: command})
	if err != nil {
		return runtime.Exit{}, err
	}
	run, err := shim.Exec(ctx, runtime.ExecConfig{Process: process, Attach: runtime.AttachOptions{Stdout: true, Stderr: true}, EndWithEngine: true})
	if err != nil {
		return runtime.Exit{}, err
	}
	defer run.Close()
	stop := context.AfterFunc(ctx, func() { _ = run.Close() }) // ends with the engine's hold on it
	defer stop()
	return run.Stream().Copy(out, out)
}

// shellOf is the SHELL that a Dockerfile set, which CMD-SHELL uses.
func (e *Engine) shellOf(c *instance) []string {
	cfg, err := e.imageConfig(c.Config().ImageID)
	if err != nil {
		return nil
	}
	return cfg.Config.Shell
}

// bounded keeps the beginning of what is written.
type bounded struct {
	max  int
	kept []byte
}

func (b *bounded) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), b.max-len(b.kept))]...)
	return len(p), nil
}
