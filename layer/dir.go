package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/deeptree"
	"github.com/berth-engine/berth/internal/mountinfo"
	"github.com/berth-engine/berth/layer/unpack"
)

// dir unpacks the file into a directory below unpacked, by way of tmp, and mounts that.
type dir struct {
	unpacked, tmp string
}

func (*dir) name() Form { return Dir }

func (d *dir) mount(ctx context.Context, o object, target string) error {
	tree := filepath.Join(d.unpacked, o.name)
	_, err := os.Lstat(tree)
	if errors.Is(err, os.ErrNotExist) {
		err = d.unpack(ctx, o.file, tree)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(tree, target, "", unix.MS_BIND, ""); err != nil {
		return unsupported(&os.PathError{Op: "bind mount", Path: tree, Err: err})
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|layerMountFlags, ""); err != nil {
		return errors.Join(&os.PathError{Op: "make read-only", Path: target, Err: err}, unix.Unmount(target, unix.MNT_DETACH))
	}
	return nil
}

// unpack makes tree from the layer file. It has the name only when all of it is on the disk: what lies
// there is never checked again.
func (d *dir) unpack(ctx context.Context, file, tree string) (err error) {
	layer, err := os.Open(file)
	if err != nil {
		return err
	}
	defer layer.Close()
	aside, err := os.MkdirTemp(d.tmp, "unpack-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("unpack the layer: %w", err), deeptree.Remove(aside))
		}
	}()
	root, err := os.Open(aside)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unpack.Into(ctx, root, layer); err != nil {
		return err
	}
	_ = unix.Fadvise(int(layer.Fd()), 0, 0, unix.FADV_DONTNEED) // it is not read again
	if err := unix.Syncfs(int(root.Fd())); err != nil {
		return &os.PathError{Op: "sync", Path: aside, Err: err}
	}
	return os.Rename(aside, tree)
}

// made compares the mounted directory with the unpacked one: mountinfo names it by the root of its file
// system, which need not be in sight.
func (*dir) made(m mountinfo.Mount, _, dir string) bool {
	var a, b unix.Stat_t
	if unix.Lstat(m.Path, &a) != nil || unix.Lstat(dir, &b) != nil {
		return false
	}
	return a.Dev == b.Dev && a.Ino == b.Ino
}

func (*dir) directIO() bool { return true }

func (*dir) notes() []string { return []string{"layers are unpacked and take their disk space twice"} }
