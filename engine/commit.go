package engine

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/image"
	"github.com/berth-engine/berth/layer"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// CommitOptions say what becomes of a container's changes.
type CommitOptions struct {
	Name            string // of the new image; "": none
	Author, Comment string
	Changes         []string // Dockerfile instructions
	Pause           bool     // freeze a running container meanwhile
	// Config, where set, takes the place of the configuration that the container gives the image.
	Config *dockerspec.DockerOCIImageConfig
}

// Commit makes an image of a container: its image's layers, and its own changes as one more.
func (e *Engine) Commit(ctx context.Context, user string, o CommitOptions) (id digest.Digest, err error) {
	c, err := e.find(user)
	if err != nil {
		return "", err
	}
	var ref reference.Named
	if o.Name != "" {
		if ref, err = image.ParseName(o.Name); err != nil {
			return "", err
		}
		if isDigest(ref) {
			return "", fmt.Errorf("refusing to create a tag with a digest reference: %w", errdefs.ErrInvalidArgument)
		}
	}
	if o.Pause && c.State().Status == container.Running {
		if err := e.Pause(ctx, c.ID); err == nil {
			defer func() {
				if e := e.Unpause(context.WithoutCancel(ctx), c.ID); e != nil && err == nil {
					err = e
				}
			}()
		}
	}
	l := e.leases.lease()
	defer e.endWork(l, &err)
	cfg := c.Config()
	l.hold(cfg.Layers...)
	made, err := e.layerOf(ctx, l, c)
	if err == nil {
		err = c.there()
	}
	if err != nil {
		return "", fmt.Errorf("commit container %s: %w", c.Name(), err)
	}
	base, err := e.imageConfig(cfg.ImageID)
	if err != nil {
		return "", err
	}
	now := time.Now().UTC()
	next := *base
	next.Created, next.Author = &now, o.Author
	next.Config = committed(cfg, base)
	if o.Config != nil {
		next.Config = *o.Config
	}
	next.RootFS.DiffIDs = append(slices.Clone(cfg.Layers), made.DiffID)
	next.History = append(slices.Clone(base.History), ocispec.History{
		Created: &now, CreatedBy: strings.Join(cfg.Process.Args(), " "), Author: o.Author, Comment: o.Comment,
	})
	id, err = e.finish(ctx, l, next, o.Changes, cfg.ImageID, ref)
	if err != nil {
		return "", err
	}
	e.event(c, "commit", map[string]string{"imageID": id.String()})
	return id, nil
}

// committed is the configuration that a container gives an image: what it ran with.
func committed(cfg *container.Config, base *image.Config) dockerspec.DockerOCIImageConfig {
	c := base.Config
	c.Env, c.User, c.WorkingDir = cfg.Process.Env, cfg.Process.User, cfg.Process.WorkingDir
	c.Cmd, c.Entrypoint, c.Labels, c.StopSignal = cfg.Process.Cmd, cfg.Process.Entrypoint, cfg.Labels, cfg.Process.StopSignal
	for _, p := range cfg.Network.Exposed {
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		c.ExposedPorts[fmt.Sprintf("%d/%s", p.Number, p.Protocol)] = struct{}{}
	}
	return c
}

// layerOf makes a layer of a container's changes, which is on the lease.
func (e *Engine) layerOf(ctx context.Context, l *lease, c *instance) (layer.Layer, error) {
	st, upper, err := e.diffOf(ctx, c)
	if err != nil {
		return layer.Layer{}, err
	}
	defer st.Release()
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := upper.WriteTar(ctx, st, w, layer.DiffOptions{MountPoints: e.mountPoints(c)})
		w.CloseWithError(err)
		written <- err
	}()
	made, err := e.layers.PutHeld(ctx, r, "", func(d digest.Digest) { l.hold(d) })
	r.CloseWithError(err)
	if e := <-written; err == nil {
		err = e
	}
	return made, err
}

// there refuses a container that is being removed: what was read of it may not be all.
func (c *instance) there() error {
	if c.State().Status.Leaving() {
		return fmt.Errorf("container %s is being removed: %w", c.Name(), errdefs.ErrConflict)
	}
	return nil
}

func (e *Engine) diffOf(ctx context.Context, c *instance) (*layer.Stack, *layer.Upper, error) {
	st, err := e.layers.Stack(ctx, c.Config().Layers)
	if err != nil {
		return nil, nil, err
	}
	upper, err := e.layers.OpenUpper(e.upperDir(c.ID))
	if err != nil {
		st.Release()
		return nil, nil, err
	}
	return st, upper, nil
}

// mountPoints are the paths that exist only because something was mounted on them.
func (e *Engine) mountPoints(c *instance) []string {
	points := []string{"/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm", "/dev/pts", "/dev/mqueue", "/dev/console"}
	for _, m := range c.Config().Mounts {
		points = append(points, path.Clean(m.Target))
	}
	return points
}

// Changes lists in which paths a container differs from its image.
func (e *Engine) Changes(ctx context.Context, user string) ([]layer.Change, error) {
	c, err := e.find(user)
	if err != nil {
		return nil, err
	}
	l := e.leases.lease()
	defer e.endLease(l)
	l.hold(c.Config().Layers...)
	st, upper, err := e.diffOf(ctx, c)
	if err != nil {
		return nil, err
	}
	defer st.Release()
	changes, err := upper.Changes(ctx, st, layer.DiffOptions{MountPoints: e.mountPoints(c)})
	if err != nil {
		return nil, err
	}
	return changes, c.there()
}
