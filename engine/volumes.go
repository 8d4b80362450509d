package engine

import (
	"context"
	"fmt"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/volume"
	"github.com/containerd/errdefs"
)

// CreateVolume makes a volume; a name that is taken gives the volume that has it. An empty name makes
// an anonymous one.
func (e *Engine) CreateVolume(ctx context.Context, v volume.Volume) (volume.Volume, error) {
	if v.Name == "" {
		v.Name, v.Anonymous = volume.NewName(), true
	}
	made, err := e.volumes.Create(ctx, v, nil)
	if errdefs.IsAlreadyExists(err) {
		return made, nil
	}
	if err == nil {
		e.events.publish("volume", "create", v.Name, nil)
	}
	return made, err
}

// Volume returns a volume.
func (e *Engine) Volume(name string) (volume.Volume, error) { return e.volumes.Get(name) }

// VolumePath is its directory on the host.
func (e *Engine) VolumePath(name string) string { return e.volumes.Path(name) }

// Volumes returns all volumes by name, and those that are damaged as warnings.
func (e *Engine) Volumes() (all []volume.Volume, warnings []string) {
	all, err := e.volumes.List()
	if err != nil {
		warnings = append(warnings, err.Error())
	}
	return all, warnings
}

// VolumeUsers are the containers that mount a volume.
func (e *Engine) VolumeUsers(name string) []string {
	var ids []string
	for _, c := range e.all() {
		for _, m := range c.Config().Mounts {
			if m.Kind == container.VolumeMount && m.Source == name {
				ids = append(ids, c.ID)
				break
			}
		}
	}
	return ids
}

// RemoveVolume removes a volume and its data; one that a container mounts is errdefs.ErrConflict. With
// force a missing one is no error.
func (e *Engine) RemoveVolume(ctx context.Context, name string, force bool) error {
	if users := e.VolumeUsers(name); len(users) > 0 {
		return fmt.Errorf("remove %s: volume is in use - %v: %w", name, users, errdefs.ErrConflict)
	}
	err := e.volumes.Remove(ctx, name)
	if errdefs.IsNotFound(err) && force {
		return nil
	}
	if err == nil {
		e.events.publish("volume", "destroy", name, nil)
	}
	return err
}
