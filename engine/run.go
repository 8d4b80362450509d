package engine

import (
	"context"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/runtime"
	"github.com/containerd/errdefs"
)

// RunRequest is create, attach, start and wait in one.
type RunRequest struct {
	CreateRequest
	Attach runtime.AttachOptions
}

// Running is a container that Run started.
type Running struct {
	ID       string
	Warnings []string
	// Stream is attached from before the start; nil where nothing was asked for. The caller closes it.
	Stream *runtime.Stream
	// Ended brings how the container ended; for one that removes itself, when it is gone.
	Ended <-chan container.Ended
	// Forget ends the wait.
	Forget func()

	instance *instance
}

// Run creates a container and starts it. created is told its ID before it starts. A container that
// could not be started stays, as after create and start, unless it removes itself.
func (e *Engine) Run(ctx context.Context, req RunRequest, created func(id string, warnings []string) error) (*Running, error) {
	c, warnings, err := e.create(ctx, req.CreateRequest)
	if err != nil {
		return nil, err
	}
	e.event(c, "create", nil)
	if err := created(c.ID, warnings); err != nil {
		return nil, err
	}
	condition := container.NextExit
	if c.Config().AutoRemove {
		condition = container.Removed
	}
	r := &Running{ID: c.ID, Warnings: warnings, instance: c}
	r.Ended, r.Forget = c.Wait(condition)
	var attach *runtime.AttachOptions
	if req.Attach.Stdin || req.Attach.Stdout || req.Attach.Stderr {
		attach = &req.Attach
	}
	if r.Stream, err = e.start(ctx, c, attach, byUser); err != nil {
		r.Forget()
		return nil, e.discard(ctx, c, err)
	}
	return r, nil
}

// Signal passes a signal on to the process. One that has ended needs none.
func (e *Engine) Signal(ctx context.Context, r *Running, number int) error {
	shim, err := r.instance.running()
	if err != nil {
		return nil
	}
	if err := shim.Signal(ctx, number, false); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}
