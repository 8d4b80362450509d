package engine

import (
	"context"
	"errors"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/runtime"
)

// watchHealth runs a container's health checks until it ends, or the engine does.
func (e *Engine) watchHealth(c *instance, shim *runtime.Shim) {
	h := c.Config().Healthcheck
	if !h.Enabled() {
		return
	}
	command := h.Command(e.shellOf(c))
	ctx, cancel := context.WithCancel(e.life)
	c.mu.Lock()
	c.endHealth = cancel
	c.mu.Unlock()
	c.Note(func(s *container.State) { s.Health = &container.Health{Status: container.Starting} })
	e.work.Go(func() {
		h.Watch(ctx, shim.Started(),
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

func (c *instance) stopHealth() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endHealth != nil {
		c.endHealth()
		c.endHealth = nil
	}
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
