package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/internal/inroot"
	"github.com/berth-engine/berth/internal/mounttree"
	"github.com/berth-engine/berth/internal/roottar"
	"github.com/berth-engine/berth/runtime"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mounts opens what is mounted over the rootfs, as descriptors, parents before children. The caller
// closes them, also those beside an error.
func (e *Engine) mounts(c *instance) (all []runtime.Mount, err error) {
	cfg := c.Config()
	add := func(target string, tree *os.File, err error) error {
		if err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		all = append(all, runtime.Mount{Destination: target, Tree: tree})
		return nil
	}
	for name, target := range e.files(c) {
		if slices.ContainsFunc(cfg.Mounts, func(m container.Mount) bool { return path.Clean(m.Target) == target }) {
			continue
		}
		tree, err := mounttree.ClonePath(name, mounttree.Options{})
		if err := add(target, tree, err); err != nil {
			return all, err
		}
	}
	for _, m := range cfg.Mounts {
		var tree *os.File
		switch m.Kind {
		case container.BindMount:
			tree, err = bind(m)
		case container.VolumeMount:
			tree, err = e.volumeTree(m)
		default:
			continue // tmpfs is in the specification
		}
		if err := add(path.Clean(m.Target), tree, err); err != nil {
			return all, err
		}
	}
	slices.SortStableFunc(all, func(a, b runtime.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return all, nil
}

// binds are the entries of an OCI configuration that the opened trees stand for.
func binds(mounts []runtime.Mount) []specs.Mount {
	var all []specs.Mount
	for _, m := range mounts {
		all = append(all, specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Tree.Name(), Options: []string{"rbind"}})
	}
	return all
}

// files are the engine's own, by their path on the host.
func (e *Engine) files(c *instance) map[string]string {
	dir := e.store.ExecDir(c.ID)
	if other, joins := container.Joins(c.Config().Network.Mode); joins {
		if o, err := e.find(other); err == nil {
			dir = e.store.ExecDir(o.ID)
		}
	}
	return map[string]string{
		filepath.Join(dir, hostsFile): "/etc/hosts", filepath.Join(dir, hostnameFile): "/etc/hostname", filepath.Join(dir, resolvConfFile): "/etc/resolv.conf",
	}
}

func bind(m container.Mount) (*os.File, error) {
	tree, err := mounttree.ClonePath(m.Source, options(m))
	if !errors.Is(err, fs.ErrNotExist) {
		return tree, err
	}
	if !m.CreateHost {
		return nil, fmt.Errorf("bind source path does not exist: %s: %w", m.Source, errdefs.ErrInvalidArgument)
	}
	if err := os.MkdirAll(m.Source, 0o755); err != nil {
		return nil, fmt.Errorf("make the bind source: %w", err)
	}
	return mounttree.ClonePath(m.Source, options(m))
}

func options(m container.Mount) mounttree.Options {
	return mounttree.Options{ReadOnly: m.ReadOnly, NonRecursive: m.NonRec, Propagation: m.Propagation}
}

func (e *Engine) volumeTree(m container.Mount) (*os.File, error) {
	if _, err := e.volumes.Get(m.Source); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	dir, err := os.Open(e.volumes.Path(m.Source))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	sub, err := inroot.Open(dir, m.Subpath, unix.O_PATH, 0)
	if m.Subpath == "" {
		sub, err = inroot.Open(dir, "/", unix.O_PATH, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", m.Source, err)
	}
	defer sub.Close()
	return mounttree.Clone(sub, options(m))
}

// copyContent copies what a rootfs has at target into a new volume's directory, owner and mode of the
// directory itself included. Nothing there, or no directory, copies nothing.
func copyContent(ctx context.Context, rootfs *os.File, target, dir string) error {
	from, err := inroot.Open(rootfs, target, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := roottar.Pack(ctx, from, "/", w, roottar.PackOptions{})
		w.CloseWithError(err)
		packed <- err
	}()
	err = roottar.Unpack(ctx, to, "/", r, roottar.UnpackOptions{})
	r.CloseWithError(err)
	return errors.Join(err, <-packed)
}
