// Package mounttree makes detached copies of mounts, as descriptors: what a container gets of the
// host is chosen once, by opening it, and never again by a path.
package mounttree

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Options say how the copy differs from what it is a copy of.
type Options struct {
	ReadOnly     bool
	NonRecursive bool // without what is mounted below
	// Propagation is "private", "slave", "shared", "unbindable", with an "r" before it for everything
	// below; "" means "rprivate".
	Propagation string
}

var propagation = map[string]uint64{
	"": unix.MS_PRIVATE, "private": unix.MS_PRIVATE, "slave": unix.MS_SLAVE, "shared": unix.MS_SHARED, "unbindable": unix.MS_UNBINDABLE,
	"rprivate": unix.MS_PRIVATE, "rslave": unix.MS_SLAVE, "rshared": unix.MS_SHARED, "runbindable": unix.MS_UNBINDABLE,
}

// Clone returns a detached copy of the tree at f, an O_PATH descriptor of a file or directory. The
// caller closes both.
func Clone(f *os.File, o Options) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	if !o.NonRecursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(int(f.Fd()), "", flags)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: f.Name(), Err: err}
	}
	tree := os.NewFile(uintptr(fd), f.Name())
	kind, known := propagation[o.Propagation]
	if !known {
		tree.Close()
		return nil, fmt.Errorf("mount propagation %q is not known", o.Propagation)
	}
	attr := unix.MountAttr{Propagation: kind}
	if o.ReadOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	at := uint(unix.AT_EMPTY_PATH)
	if !o.NonRecursive {
		at |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(fd, "", at, &attr); err != nil {
		tree.Close()
		return nil, &os.PathError{Op: "mount_setattr", Path: f.Name(), Err: err}
	}
	return tree, nil
}

// ClonePath is Clone of a path of the host, symbolic links followed.
func ClonePath(path string, o Options) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	return Clone(f, o)
}
