package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/runtime"
	"github.com/containerd/errdefs"
)

// instance is a container with what belongs to it while the engine lives.
type instance struct {
	*container.Container

	mu        sync.Mutex             // innermost, as Container's
	shim      *runtime.Shim          // guarded by mu; nil while there is no process
	endHealth func() <-chan struct{} // guarded by mu; nil while there are no health checks
	lastDelay time.Duration          // guarded by mu; of the restart before
	endWait   context.CancelFunc     // guarded by mu; ends the wait for the next restart
	early     []*expected            // guarded by mu; who attached before the start
}

// running returns the shim of a running container. The error is errdefs.ErrConflict, in Docker's words.
func (c *instance) running() (*runtime.Shim, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shim == nil {
		return nil, fmt.Errorf("container %s is not running: %w", c.ID, errdefs.ErrConflict)
	}
	return c.shim, nil
}

// letGo forgets the shim; the container runs on.
func (c *instance) letGo() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shim != nil {
		_ = c.shim.Close() // nothing of the container depends on it
		c.shim = nil
	}
}

// all returns every container.
func (e *Engine) all() []*instance {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*instance, 0, len(e.containers))
	for _, c := range e.containers {
		all = append(all, c)
	}
	return all
}

// find returns the container that a user means: a name, an ID, or the beginning of one.
func (e *Engine) find(user string) (*instance, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.containers[user]; c != nil {
		return c, nil
	}
	if c := e.containers[e.names[strings.TrimPrefix(user, "/")]]; c != nil {
		return c, nil
	}
	var found *instance
	if user != "" {
		for id, c := range e.containers {
			if strings.HasPrefix(id, user) {
				if found != nil {
					return nil, fmt.Errorf("multiple IDs found with provided prefix: %s: %w", user, errdefs.ErrInvalidArgument)
				}
				found = c
			}
		}
	}
	if found == nil {
		return nil, fmt.Errorf("No such container: %s: %w", user, errdefs.ErrNotFound) // Docker's sentence
	}
	return found, nil
}

// reserve gives a name to an ID. An empty one is made up.
func (e *Engine) reserve(name, id string) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		for try := 0; ; try++ {
			if name = container.RandomName(try); e.names[name] == "" {
				break
			}
		}
	} else if err := container.CheckName(name); err != nil {
		return "", err
	}
	if other := e.names[name]; other != "" {
		return "", fmt.Errorf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name: %w", "/"+name, other, errdefs.ErrConflict) // Docker's sentence
	}
	e.names[name] = id
	return name, nil
}

// release gives a name back, if id still has it.
func (e *Engine) release(name, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.names[name] == id {
		delete(e.names, name)
	}
}

func (e *Engine) add(c *instance) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[c.ID] = c
}

// forget takes a container and its name out of sight.
func (e *Engine) forget(c *instance) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, c.ID)
	if name := c.Name(); e.names[name] == c.ID {
		delete(e.names, name)
	}
}

// Rename gives a container another name.
func (e *Engine) Rename(ctx context.Context, user, name string) error {
	c, err := e.find(user)
	if err != nil {
		return err
	}
	release, err := c.Claim(ctx)
	if err != nil {
		return err
	}
	defer release()
	if c.State().Status.Leaving() {
		return fmt.Errorf("container %s is marked for removal and cannot be renamed: %w", c.Name(), errdefs.ErrConflict)
	}
	old := c.Name()
	name, err = e.reserve(name, c.ID)
	if err != nil {
		return err
	}
	if err := c.Rename(name); err != nil {
		e.release(name, c.ID)
		return err
	}
	e.release(old, c.ID)
	if err := e.networks.Rename(ctx, c.ID, name); err != nil {
		e.log.Error("a renamed container is found in its networks under its old name until it is started again", "container", c.ID, "error", err)
	}
	e.event(c, "rename", map[string]string{"oldName": "/" + old})
	return nil
}

// event publishes what happened to a container, with its labels, as Docker does.
func (e *Engine) event(c *instance, action string, more map[string]string) {
	attributes := map[string]string{"name": c.Name(), "image": c.Config().Image}
	for _, from := range []map[string]string{c.Config().Labels, more} {
		for k, v := range from {
			attributes[k] = v
		}
	}
	e.events.publish("container", action, c.ID, attributes)
}

// describe wraps the error of an action on a container.
func describe(c *instance, action string, err error) error {
	var failed *runtime.StartError
	if err == nil || errors.As(err, &failed) {
		return err
	}
	return fmt.Errorf("%s %s: %w", action, c.Name(), err)
}
