package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/network"
)

// Container is what the engine shows of a container.
type Container struct {
	container.Record
	Attached network.Attached // the zero value where it has no network now
	Execs    []string
	LogPath  string
	// UpperDir is its writable directory on the host.
	UpperDir string
	// VolumePaths are the directories of the volumes that it mounts, by name.
	VolumePaths map[string]string
	// HostsPath, HostnamePath and ResolvConfPath are what is mounted at those places.
	HostsPath, HostnamePath, ResolvConfPath string
}

// Inspect returns everything about one container.
func (e *Engine) Inspect(user string) (Container, error) {
	c, err := e.find(user)
	if err != nil {
		return Container{}, err
	}
	return e.show(c), nil
}

func (e *Engine) show(c *instance) Container {
	dir := e.store.ExecDir(c.ID) + "/"
	shown := Container{
		Record: c.Record(), Execs: e.ExecsOf(c.ID), UpperDir: e.upperDir(c.ID),
		HostsPath: dir + hostsFile, HostnamePath: dir + hostnameFile, ResolvConfPath: dir + resolvConfFile,
		VolumePaths: map[string]string{},
	}
	for _, m := range c.Config().Mounts {
		if m.Kind == container.VolumeMount {
			shown.VolumePaths[m.Source] = e.volumes.Path(m.Source)
		}
	}
	if c.Config().Log.Driver != "none" {
		shown.LogPath = e.logPath(c.ID)
	}
	if shown.State.Status.Active() {
		if attached, err := e.networks.Lookup(c.ID); err == nil {
			shown.Attached = attached
		}
	}
	return shown
}

// List returns all containers, the newest first.
func (e *Engine) List() []Container {
	var all []Container
	for _, c := range e.all() {
		all = append(all, e.show(c))
	}
	slices.SortFunc(all, func(a, b Container) int {
		if d := b.Created.Compare(a.Created); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// Sizes returns how many bytes a container has written, and how many it has with its image.
func (e *Engine) Sizes(ctx context.Context, user string) (written, whole int64, err error) {
	c, err := e.find(user)
	if err != nil {
		return 0, 0, err
	}
	upper, err := e.layers.OpenUpper(e.upperDir(c.ID))
	if err != nil {
		return 0, 0, err
	}
	if written, err = upper.Size(ctx); err != nil {
		return 0, 0, err
	}
	whole = written
	for _, id := range c.Config().Layers {
		l, err := e.layers.Get(id)
		if err != nil {
			return 0, 0, err
		}
		whole += l.TarSize
	}
	return written, whole, nil
}
