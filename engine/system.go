package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-engine/berth/build"
	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/deeptree"
	"github.com/berth-engine/berth/network"
	"github.com/berth-engine/berth/volume"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Info is what the engine says of itself and its machine.
type Info struct {
	ID                               string // of this engine, for as long as its data root
	Runtime                          string // path of berth-runtime
	Running, Paused, Stopped, Images int
	DataRoot, ExecRoot               string
	Kernel, OperatingSystem          string
	Hostname                         string
	CPUs                             int
	Memory                           int64 // bytes
	CgroupV2                         bool
	AppArmor, Seccomp                bool
	Storage                          [][2]string // what is in use for layers, name and value
	Version                          string
	Warnings                         []string
}

// Info gathers it.
func (e *Engine) Info(ctx context.Context) (Info, error) {
	i := Info{
		DataRoot: e.opts.DataRoot, ExecRoot: e.opts.ExecRoot, Kernel: e.machine.kernel, CPUs: onlineCPUs(), CgroupV2: e.machine.cgroupV2,
		AppArmor: e.machine.apparmor, Seccomp: e.machine.seccomp, Version: e.opts.Version, Runtime: e.opts.Runtime, OperatingSystem: operatingSystem(),
	}
	for _, c := range e.all() {
		switch c.State().Status {
		case container.Running:
			i.Running++
		case container.Paused:
			i.Paused++
		default:
			i.Stopped++
		}
	}
	images, err := e.images.List()
	if err != nil {
		i.Warnings = append(i.Warnings, err.Error())
	}
	i.Images = len(images)
	if e.images.Damaged() {
		i.Warnings = append(i.Warnings, "a damaged image record was set aside: nothing is deleted until it has been looked at")
	}
	if i.Hostname, err = os.Hostname(); err != nil {
		return i, err
	}
	var sys unix.Sysinfo_t
	if err := unix.Sysinfo(&sys); err != nil {
		return i, err
	}
	i.Memory = int64(sys.Totalram) * int64(sys.Unit)
	if i.Storage, err = e.storage(ctx); err != nil {
		return i, err
	}
	i.ID, err = e.id()
	return i, err
}

// storage says how layers are kept and mounted here.
func (e *Engine) storage(ctx context.Context) ([][2]string, error) {
	i, err := e.layers.Info(ctx)
	if err != nil {
		return nil, err
	}
	all := [][2]string{
		{"Layer form", string(i.Form)}, {"Direct IO", strconv.FormatBool(i.DirectIO)}, {"Overlay", i.Overlay}, {"Max layers", strconv.Itoa(i.MaxLayers)},
		{"Layers mounted", strconv.Itoa(i.Mounted)},
	}
	for _, note := range i.Notes {
		all = append(all, [2]string{"Note", note})
	}
	return all, nil
}

// id is made when it is first asked for.
func (e *Engine) id() (string, error) {
	path := filepath.Join(e.opts.DataRoot, "engine-id")
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := container.NewID()[:32]
	return id, atomicfile.Write(path, []byte(id+"\n"), 0o600, atomicfile.Durable)
}

// Usage is what takes room on disk.
type Usage struct {
	LayersSize int64 // bytes of all layers that images have
	Images     []Image
	// Shared is how many bytes of an image's layers another image has, too.
	Shared     map[digest.Digest]int64
	Containers []Container
	Written    map[string]int64 // bytes that a container has written, by ID
	Volumes    []VolumeUsage
	Build      build.Usage
}

// SharedOf is how many bytes of an image's layers another image has, too.
func (u Usage) SharedOf(id string) int64 { return u.Shared[digest.Digest(id)] }

// VolumeUsage is a volume, the bytes in it, and how many containers mount it.
type VolumeUsage struct {
	volume.Volume
	Size  int64
	Users int
}

// Usage measures it.
func (e *Engine) Usage(ctx context.Context) (Usage, error) {
	u := Usage{Shared: map[digest.Digest]int64{}, Written: map[string]int64{}, Containers: e.List()}
	layers, err := e.layers.List()
	if err != nil {
		return u, err
	}
	if u.Images, err = e.Images(); err != nil {
		return u, err
	}
	users := map[digest.Digest]int{}
	for _, img := range u.Images {
		for _, d := range img.DiffIDs {
			users[d]++
		}
	}
	size := map[digest.Digest]int64{}
	for _, l := range layers {
		if users[l.DiffID] > 0 { // others are the build cache's, which counts them itself, or of a removed image's container
			u.LayersSize += l.Size
		}
		size[l.DiffID] = l.TarSize
	}
	for _, img := range u.Images {
		for _, d := range img.DiffIDs {
			if users[d] > 1 {
				u.Shared[img.ID] += size[d]
			}
		}
	}
	for _, c := range u.Containers {
		written, _, err := e.Sizes(ctx, c.ID)
		if errdefs.IsNotFound(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return u, err
		}
		u.Written[c.ID] = written
	}
	volumes, _ := e.Volumes()
	for _, v := range volumes {
		u.Volumes = append(u.Volumes, VolumeUsage{v, deeptree.Size(ctx, e.volumes.Path(v.Name)), len(e.VolumeUsers(v.Name))})
	}
	u.Build, err = e.builder.Usage(ctx)
	return u, err
}

// Pruned is what a prune deleted.
type Pruned struct {
	Deleted   []string
	Images    []RemovedImage
	Reclaimed int64 // bytes
}

// PruneContainers removes the stopped containers that keep says false of.
func (e *Engine) PruneContainers(ctx context.Context, keep func(Container) bool) (p Pruned, err error) {
	for _, c := range e.List() {
		if c.State.Status.Active() || c.State.Status == container.Restarting || keep(c) {
			continue
		}
		written, _, err := e.Sizes(ctx, c.ID)
		if err != nil && !errdefs.IsNotFound(err) {
			return p, err
		}
		if err := e.Remove(ctx, c.ID, RemoveOptions{}); err != nil {
			if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
				continue // somebody was faster
			}
			return p, err
		}
		p.Deleted, p.Reclaimed = append(p.Deleted, c.ID), p.Reclaimed+written
	}
	return p, nil
}

// PruneImages removes images that no container uses and keep says false of.
func (e *Engine) PruneImages(ctx context.Context, keep func(Image) bool) (p Pruned, err error) {
	images, err := e.Images()
	if err != nil {
		return p, err
	}
	for _, img := range images {
		if ctx.Err() != nil {
			return p, context.Cause(ctx)
		}
		if keep(img) || img.Containers > 0 {
			continue
		}
		sizes := e.sizes(belongings(img.Image))
		done, deleted, err := e.deleteImage(img.ID, func(all []reference.Named) ([]reference.Named, error) {
			if !slices.EqualFunc(all, img.Names, func(a, b reference.Named) bool { return a.String() == b.String() }) {
				return nil, fmt.Errorf("image %s was given other names meanwhile: %w", short(img.ID), errdefs.ErrConflict)
			}
			if e.leases.naming[img.ID] > 0 {
				return nil, fmt.Errorf("image %s is being given a name: %w", short(img.ID), errdefs.ErrConflict)
			}
			return all, e.unused(img.ID, false, false)
		})
		if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return p, err
		}
		for _, d := range deleted {
			p.Reclaimed += sizes[d]
		}
		p.Images = append(p.Images, done...)
	}
	return p, nil
}

// sizes are the bytes that layers and blobs take on the disk.
func (e *Engine) sizes(all []digest.Digest) map[digest.Digest]int64 {
	sizes := map[digest.Digest]int64{}
	for _, d := range all {
		if l, err := e.layers.Get(d); err == nil {
			sizes[d] = l.Size
		} else if b, err := e.content.Info(d); err == nil {
			sizes[d] = b.Size
		}
	}
	return sizes
}

// PruneVolumes removes volumes that no container mounts and keep says false of.
func (e *Engine) PruneVolumes(ctx context.Context, keep func(volume.Volume) bool) (p Pruned, err error) {
	all, _ := e.Volumes()
	for _, v := range all {
		if keep(v) || len(e.VolumeUsers(v.Name)) > 0 {
			continue
		}
		size := deeptree.Size(ctx, e.volumes.Path(v.Name))
		if ctx.Err() != nil {
			return p, context.Cause(ctx)
		}
		if err := e.RemoveVolume(ctx, v.Name, false); err != nil {
			if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
				continue
			}
			return p, err
		}
		p.Deleted, p.Reclaimed = append(p.Deleted, v.Name), p.Reclaimed+size
	}
	return p, nil
}

// PruneNetworks removes user-defined networks that nothing is attached to and keep says false of.
func (e *Engine) PruneNetworks(ctx context.Context, keep func(network.Network) bool) (p Pruned, err error) {
	for _, n := range e.Networks() {
		if n.Predefined() || len(e.NetworkUsers(n.ID)) > 0 || keep(n) {
			continue
		}
		if err := e.RemoveNetwork(ctx, n.ID); err != nil {
			if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
				continue
			}
			return p, err
		}
		p.Deleted = append(p.Deleted, n.Name)
	}
	return p, nil
}

// PruneBuild throws away the build cache: without o.All, what no image stands on.
func (e *Engine) PruneBuild(ctx context.Context, o build.PruneOptions) (p Pruned, err error) {
	images, err := e.images.List()
	if err != nil {
		return p, err
	}
	inImage := map[digest.Digest]bool{}
	for _, img := range images {
		for _, d := range img.DiffIDs {
			inImage[d] = true
		}
	}
	o.InImage = func(d digest.Digest) bool { return inImage[d] }
	freed, forgotten, failed := e.builder.Prune(ctx, o)
	p.Reclaimed = freed
	sizes := e.sizes(forgotten)
	deleted, err := e.collect(forgotten) // in any case: nobody else knows of them
	for _, d := range deleted {
		p.Deleted, p.Reclaimed = append(p.Deleted, d.String()), p.Reclaimed+sizes[d]
	}
	return p, errors.Join(failed, err)
}
