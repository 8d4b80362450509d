package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/container/bundle"
	"github.com/berth-engine/berth/image"
	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/cleanup"
	"github.com/berth-engine/berth/layer"
	"github.com/berth-engine/berth/volume"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// CreateRequest asks for a container.
type CreateRequest struct {
	Name     string // "": one is made up
	Platform *ocispec.Platform
	// Config is what the user said. The image's defaults are filled in by Create; Cmd and Entrypoint
	// that are nil mean the image's.
	Config container.Config
}

// Create makes a container, with its writable layer and its volumes, and does not start it. A missing
// image, and nothing else, is errdefs.ErrNotFound.
func (e *Engine) Create(ctx context.Context, req CreateRequest) (id string, warnings []string, err error) {
	c, warnings, err := e.create(ctx, req)
	if err != nil {
		return "", nil, err
	}
	e.event(c, "create", nil)
	return c.ID, warnings, nil
}

func (e *Engine) create(ctx context.Context, req CreateRequest) (_ *instance, warnings []string, err error) {
	cfg := req.Config
	if err := checkSharing(&cfg); err != nil { // before fillIn: what the image exposes is no conflict
		return nil, nil, err
	}
	l := e.leases.lease() // of the image, until the container itself names it
	defer e.endLease(l)
	img, imageConfig, err := e.imageFor(l, cfg.Image, req.Platform)
	if err != nil {
		return nil, nil, err
	}
	cfg.ImageID, cfg.Layers, cfg.Platform32 = img.ID, img.DiffIDs, is32(imageConfig.Architecture)
	fillIn(&cfg, imageConfig)
	if warnings, err = e.check(&cfg); err != nil {
		return nil, nil, err
	}

	undo := cleanup.New()
	defer undo.Run(&err)
	id := e.runtime.NewID()
	name, err := e.reserve(req.Name, id)
	if err != nil {
		return nil, nil, err
	}
	undo.Add(func() error { e.release(name, id); return nil })
	_, joins := container.Joins(cfg.Network.Mode)
	if cfg.Network.Hostname == "" && cfg.Network.Mode != "host" && !joins {
		cfg.Network.Hostname = container.ShortID(id)
	}
	if err := e.store.Make(id); err != nil {
		return nil, nil, err
	}
	undo.Add(func() error { return e.store.Destroy(id) }) // only what was claimed
	if _, err := e.layers.NewUpper(e.upperDir(id)); err != nil {
		return nil, nil, err
	}
	made, err := e.createVolumes(ctx, id, &cfg)
	undo.Add(func() error { return e.removeVolumes(context.WithoutCancel(ctx), made) })
	if err != nil {
		return nil, nil, err
	}
	record := container.Record{ID: id, Name: name, Created: time.Now().UTC(), Config: cfg, State: container.State{Status: container.Created}}
	if err := e.store.Save(&record, atomicfile.Durable); err != nil {
		return nil, nil, err
	}
	c := &instance{Container: container.New(e.store, record)}
	e.add(c)
	undo.Cancel()
	return c, warnings, nil
}

func (e *Engine) upperDir(id string) string { return filepath.Join(e.store.DataDir(id), "layer") }

func (e *Engine) logPath(id string) string {
	return filepath.Join(e.store.DataDir(id), id+"-json.log")
}

// is32 tells whether an architecture's programs may have a 32-bit ino_t.
func is32(architecture string) bool {
	return slices.Contains([]string{"386", "arm", "mips", "mipsle", "ppc"}, architecture)
}

// imageFor finds an image that is here, has the lease keep it, and checks that it is for the platform that was asked
// for.
func (e *Engine) imageFor(l *lease, name string, platform *ocispec.Platform) (img image.Image, _ *image.Config, err error) {
	id, err := e.images.Resolve(name)
	if err != nil {
		return img, nil, err
	}
	l.use(id)
	img, err = e.holdImage(l, id)
	if errdefs.IsNotFound(err) { // removed in this moment
		return img, nil, image.NotFound(name)
	}
	if err != nil {
		return img, nil, err
	}
	cfg, err := e.imageConfig(img.ID)
	if err != nil {
		return img, nil, err
	}
	if platform != nil && !matches(*platform, cfg.Platform) {
		return img, nil, fmt.Errorf("image %s is for %s, not for %s: pull it with --platform: %w", name, platformString(cfg.Platform), platformString(*platform), errdefs.ErrNotFound)
	}
	return img, cfg, nil
}

// fillIn gives what the user left open the image's values (moby, daemon/commit.go "merge").
func fillIn(c *container.Config, img *image.Config) {
	d := img.Config
	p := &c.Process
	if p.User == "" {
		p.User = d.User
	}
	if p.WorkingDir == "" {
		p.WorkingDir = d.WorkingDir
	}
	if p.StopSignal == "" {
		p.StopSignal = d.StopSignal
	}
	p.Env = bundle.Merge(d.Env, p.Env)
	if p.Entrypoint == nil {
		if p.Cmd == nil {
			p.Cmd = d.Cmd
		}
		p.Entrypoint = d.Entrypoint
	}
	if len(p.Entrypoint) == 1 && p.Entrypoint[0] == "" { // --entrypoint "" takes the image's away
		p.Entrypoint = nil
	}
	labels := map[string]string{}
	for _, from := range []map[string]string{d.Labels, c.Labels} {
		for k, v := range from {
			labels[k] = v
		}
	}
	c.Labels = labels
	for port := range d.ExposedPorts {
		if p, err := ParsePort(port); err == nil && !slices.Contains(c.Network.Exposed, p) {
			c.Network.Exposed = append(c.Network.Exposed, p)
		}
	}
	for target := range d.Volumes {
		target = path.Clean("/" + target)
		if !slices.ContainsFunc(c.Mounts, func(m container.Mount) bool { return path.Clean(m.Target) == target }) {
			c.Mounts = append(c.Mounts, container.Mount{Kind: container.VolumeMount, Target: target, Anonymous: true})
		}
	}
	if h := d.Healthcheck; h != nil {
		base := container.Healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
		c.Healthcheck = overlayHealth(base, c.Healthcheck)
	}
}

// overlayHealth returns the image's check with what the user said in place.
func overlayHealth(h container.Healthcheck, user *container.Healthcheck) *container.Healthcheck {
	if user == nil {
		return &h
	}
	if len(user.Test) > 0 {
		h.Test = user.Test
	}
	for _, f := range []struct{ to, from *time.Duration }{
		{&h.Interval, &user.Interval}, {&h.Timeout, &user.Timeout}, {&h.StartPeriod, &user.StartPeriod}, {&h.StartInterval, &user.StartInterval},
	} {
		if *f.from != 0 {
			*f.to = *f.from
		}
	}
	if user.Retries != 0 {
		h.Retries = user.Retries
	}
	return &h
}

// createVolumes makes the volumes that the container's mounts want and that are not there, each with
// the image's content at its path, and names the anonymous ones. made are those that are new.
func (e *Engine) createVolumes(ctx context.Context, id string, cfg *container.Config) (made []string, err error) {
	cfg.Mounts = slices.Clone(cfg.Mounts)
	var view *os.File // of the image, mounted when the first volume wants it
	defer func() {
		if view != nil {
			err = errors.Join(err, view.Close())
		}
	}()
	for i := range cfg.Mounts {
		m := &cfg.Mounts[i]
		if m.Kind != container.VolumeMount {
			continue
		}
		v := volume.Volume{Name: m.Source, Labels: m.Labels}
		if v.Name == "" {
			m.Anonymous = true
			v = volume.Volume{Name: volume.NewName(), Labels: m.Labels, Anonymous: true, Container: id}
			m.Source = v.Name
		}
		fresh, err := e.wantsContent(v.Name)
		if err != nil {
			return made, err
		}
		if fresh && view == nil && !m.NoCopy {
			if view, err = e.view(ctx, cfg); err != nil {
				return made, err
			}
		}
		fill := func(dir string) error {
			if m.NoCopy {
				return nil
			}
			return copyContent(ctx, view, m.Target, dir)
		}
		_, err = e.volumes.Create(ctx, v, fill)
		switch {
		case err == nil:
			made = append(made, v.Name)
			e.events.publish("volume", "create", v.Name, nil)
		case !errdefs.IsAlreadyExists(err):
			return made, err
		case fresh: // it was there, and empty
			if err := fill(e.volumes.Path(v.Name)); err != nil {
				return made, fmt.Errorf("fill volume %s: %w", v.Name, err)
			}
		}
	}
	return made, nil
}

// wantsContent tells whether a volume is new or still empty: then it gets the image's content.
func (e *Engine) wantsContent(name string) (bool, error) {
	if _, err := e.volumes.Get(name); errdefs.IsNotFound(err) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	f, err := os.Open(e.volumes.Path(name))
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, _ := f.Readdirnames(1) // the end of an empty directory is an error
	return len(names) == 0, nil
}

// view mounts the image of a configuration, read-only and attached to nothing. The caller closes it.
func (e *Engine) view(ctx context.Context, cfg *container.Config) (*os.File, error) {
	st, err := e.layers.Stack(ctx, cfg.Layers)
	if err != nil {
		return nil, err
	}
	defer st.Release()
	return st.Mount(ctx, nil, layer.MountOptions{No64: cfg.Platform32})
}

// removeVolumes takes back what createVolumes made.
func (e *Engine) removeVolumes(ctx context.Context, names []string) error {
	var errs []error
	for _, name := range names {
		err := e.RemoveVolume(ctx, name, true)
		if err != nil && !errdefs.IsConflict(err) { // another container has begun to use it
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
