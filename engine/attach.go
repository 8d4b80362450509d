package engine

import (
	"context"
	"fmt"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/internal/jsonlog"
	"github.com/berth-engine/berth/runtime"
	"github.com/containerd/errdefs"
)

// Attach attaches a stream to a container's process. The caller closes it.
//
// Where the container has not been started yet, the stream comes when it is: `docker run` attaches
// before it starts. ready is called as soon as nothing of the output can be missed any more.
func (e *Engine) Attach(ctx context.Context, user string, o runtime.AttachOptions, ready func() error) (*runtime.Stream, error) {
	c, err := e.find(user)
	if err != nil {
		return nil, err
	}
	if c.State().Status == container.Paused {
		return nil, fmt.Errorf("container %s is paused, unpause the container before attach: %w", c.Name(), errdefs.ErrConflict)
	}
	if shim, err := c.running(); err == nil {
		if err := ready(); err != nil {
			return nil, err
		}
		return shim.Attach(ctx, o)
	}
	w := c.expect(o)
	defer c.unexpect(w)
	if err := ready(); err != nil {
		return nil, err
	}
	select {
	case s := <-w.stream:
		if s == nil {
			return nil, fmt.Errorf("container %s was not started: %w", c.Name(), errdefs.ErrConflict)
		}
		return s, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// expected is somebody who attached before the start.
type expected struct {
	options runtime.AttachOptions
	stream  chan *runtime.Stream // of capacity one
}

func (c *instance) expect(o runtime.AttachOptions) *expected {
	w := &expected{o, make(chan *runtime.Stream, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.early = append(c.early, w)
	return w
}

func (c *instance) unexpect(w *expected) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.early {
		if c.early[i] == w {
			c.early = append(c.early[:i], c.early[i+1:]...)
			return
		}
	}
}

// firstExpected is what the stream that is there from before the start must carry: that of the one who
// attached first. Those after it are attached right after the start.
func (c *instance) firstExpected() *runtime.AttachOptions {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.early) == 0 {
		return nil
	}
	return &c.early[0].options
}

// serve gives everybody who attached before the start a stream; first is the one from before it, nil
// where the start failed.
func (c *instance) serve(ctx context.Context, first *runtime.Stream, shim *runtime.Shim) {
	c.mu.Lock()
	early := c.early
	c.early = nil
	c.mu.Unlock()
	for i, w := range early {
		s := first
		if i > 0 && shim != nil {
			var err error
			if s, err = shim.Attach(ctx, w.options); err != nil {
				s = nil
			}
		}
		w.stream <- s
	}
}

// Resize sets the size of a container's terminal.
func (e *Engine) Resize(ctx context.Context, user string, size runtime.Size) error {
	c, err := e.find(user)
	if err != nil {
		return err
	}
	shim, err := c.running()
	if err != nil {
		return err
	}
	return describe(c, "resize", shim.Resize(ctx, size))
}

// Logs reads a container's log. With Follow it ends when the container does. The caller closes it.
func (e *Engine) Logs(user string, o jsonlog.ReadOptions) (r *jsonlog.Reader, tty bool, err error) {
	c, err := e.find(user)
	if err != nil {
		return nil, false, err
	}
	if c.Config().Log.Driver == "none" {
		return nil, false, fmt.Errorf("configured logging driver does not support reading: container %s was made with --log-driver none: %w", c.Name(), errdefs.ErrNotImplemented)
	}
	if o.Follow {
		if shim, err := c.running(); err == nil {
			o.Ended = shim.Done()
		} else {
			o.Follow = false
		}
	}
	r, err = jsonlog.NewReader(e.logPath(c.ID), o)
	return r, c.Config().Process.TTY, err
}
