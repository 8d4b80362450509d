package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/internal/inroot"
	"github.com/berth-engine/berth/internal/mounttree"
	"github.com/berth-engine/berth/internal/roottar"
	"github.com/berth-engine/berth/layer"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// FileInfo is what is told of a path in a container.
type FileInfo struct {
	Name       string
	Size       int64
	Mode       fs.FileMode
	ModTime    time.Time
	LinkTarget string // where a symbolic link ends, in the container; "" for anything else
}

// rootOf opens a container's root with everything that is mounted in it: through its shim where it
// runs, else by mounting it, which the claim that release gives back allows to nobody else.
func (e *Engine) rootOf(ctx context.Context, c *instance) (root *os.File, release func(), err error) {
	if shim, err := c.running(); err == nil {
		root, err := shim.Rootfs(ctx)
		return root, func() {}, err
	}
	unclaim, err := c.Claim(ctx)
	if err != nil {
		return nil, nil, err
	}
	if _, err := c.running(); err == nil { // started meanwhile
		unclaim()
		return e.rootOf(ctx, c)
	}
	root, err = e.mountRootfs(ctx, c)
	if err != nil {
		unclaim()
		return nil, nil, err
	}
	if err := e.mountVolumes(c, root); err != nil {
		unclaim()
		return nil, nil, errors.Join(err, root.Close())
	}
	return root, unclaim, nil
}

// mountVolumes attaches a stopped container's volumes and binds, and the engine's files that it had, below its
// detached root, so that cp sees what the container would.
func (e *Engine) mountVolumes(c *instance, root *os.File) error {
	for name, target := range e.files(c) {
		tree, err := mounttree.ClonePath(name, mounttree.Options{})
		if err == nil {
			err = attachIn(root, target, tree)
			tree.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // not started yet
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	for _, m := range c.Config().Mounts {
		var (
			tree *os.File
			err  error
		)
		switch m.Kind {
		case container.BindMount:
			tree, err = mounttree.ClonePath(m.Source, options(m))
		case container.VolumeMount:
			tree, err = e.volumeTree(m)
		default:
			continue
		}
		if err == nil {
			err = attachIn(root, m.Target, tree)
			tree.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return nil
}

// attachIn attaches a tree at a path inside a detached root. A kernel that can't (before 6.15) leaves
// the place as the rootfs has it.
func attachIn(root *os.File, target string, tree *os.File) error {
	at, err := inroot.Open(root, target, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer at.Close()
	err = unix.MoveMount(int(tree.Fd()), "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// StatPath tells about a path in a container. The error is errdefs.ErrNotFound where there is nothing.
func (e *Engine) StatPath(ctx context.Context, user, name string) (info FileInfo, err error) {
	err = e.inRoot(ctx, user, func(c *instance, root *os.File) error {
		info, err = statIn(root, c, name)
		return err
	})
	return info, err
}

// inRoot calls do with a container and its root.
func (e *Engine) inRoot(ctx context.Context, user string, do func(c *instance, root *os.File) error) error {
	c, err := e.find(user)
	if err != nil {
		return err
	}
	root, release, err := e.rootOf(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	defer root.Close()
	return do(c, root)
}

func statIn(root *os.File, c *instance, name string) (FileInfo, error) {
	f, err := inroot.Open(root, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return FileInfo{}, missing(c, name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return FileInfo{}, err
	}
	out := FileInfo{Name: path.Base(path.Clean("/" + name)), Size: info.Size(), Mode: info.Mode(), ModTime: info.ModTime()}
	if info.Mode()&fs.ModeSymlink != 0 {
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(f.Fd()), "", target)
		if err != nil {
			return FileInfo{}, err
		}
		out.LinkTarget = string(target[:n])
		if !path.IsAbs(out.LinkTarget) {
			out.LinkTarget = path.Join("/", path.Dir(name), out.LinkTarget)
		}
	}
	return out, nil
}

func missing(c *instance, name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("Could not find the file %s in container %s: %w", name, c.Name(), errdefs.ErrNotFound) // Docker's sentence
	}
	return err
}

// CopyFrom calls header with what is told of a path, and then writes it as a tar, named by the last
// part of the path.
func (e *Engine) CopyFrom(ctx context.Context, user, name string, header func(FileInfo) (io.Writer, error)) error {
	return e.inRoot(ctx, user, func(c *instance, root *os.File) error {
		info, err := statIn(root, c, name)
		if err != nil {
			return err
		}
		w, err := header(info)
		if err != nil {
			return err
		}
		as := info.Name
		if as == "/" || strings.HasSuffix(name, "/.") { // the content of a directory
			as = ""
		}
		return roottar.Pack(ctx, root, name, w, roottar.PackOptions{Name: as, FollowRoot: strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.")})
	})
}

// CopyToOptions say how a tar goes into a container.
type CopyToOptions struct {
	NoOverwriteDirNonDir bool
	// KeepOwner keeps the owners that the tar says; else everything belongs to root (`cp` without -a).
	KeepOwner bool
}

// CopyTo unpacks a tar into a directory of a container.
func (e *Engine) CopyTo(ctx context.Context, user, dir string, r io.Reader, o CopyToOptions) error {
	return e.inRoot(ctx, user, func(c *instance, root *os.File) error { return copyTo(ctx, c, root, dir, r, o) })
}

func copyTo(ctx context.Context, c *instance, root *os.File, dir string, r io.Reader, o CopyToOptions) error {
	if c.Config().Isolation.ReadonlyRootfs {
		return fmt.Errorf("container rootfs is marked read-only: %w", errdefs.ErrPermissionDenied)
	}
	options := roottar.UnpackOptions{NoOverwriteDirNonDir: o.NoOverwriteDirNonDir}
	if !o.KeepOwner {
		options.Owner = &roottar.Owner{}
	}
	err := roottar.Unpack(ctx, root, dir, r, options)
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("extraction point %s is not a directory: %w", dir, errdefs.ErrInvalidArgument)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("mounted volume is marked read-only: %w: %w", err, errdefs.ErrPermissionDenied)
	}
	return missing(c, dir, err)
}

// Export writes a container's whole file system as a tar, without what is mounted in it.
func (e *Engine) Export(ctx context.Context, user string, w io.Writer) error {
	c, err := e.find(user)
	if err != nil {
		return err
	}
	if shim, err := c.running(); err == nil {
		root, err := shim.Rootfs(ctx)
		if err != nil {
			return err
		}
		defer root.Close()
		return roottar.Pack(ctx, root, "/", w, roottar.PackOptions{OneFileSystem: true})
	}
	release, err := c.Claim(ctx)
	if err != nil {
		return err
	}
	defer release()
	st, upper, err := e.diffOf(ctx, c)
	if err != nil {
		return err
	}
	defer st.Release()
	root, err := st.Mount(ctx, upper, layer.MountOptions{ReadOnly: true, No64: c.Config().Platform32})
	if err != nil {
		return err
	}
	defer root.Close()
	return roottar.Pack(ctx, root, "/", w, roottar.PackOptions{OneFileSystem: true})
}
