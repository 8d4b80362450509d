package deeptree

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Remove deletes path and all that is in it; that there is none is no error. What can't be deleted does
// not keep the rest: the error is the first of them. What is mounted in it stays.
func Remove(path string) error { return remove(path, never) }

// RemoveContext is Remove until ctx ends, whose cause it returns then.
func RemoveContext(ctx context.Context, path string) error {
	return remove(path, func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	})
}

// RemoveAt is Remove of a name in the directory dir (O_PATH will do).
func RemoveAt(dir *os.File, name string) error {
	return removeAt(int(dir.Fd()), name, filepath.Join(dir.Name(), name), never)
}

func never() error { return nil }

func remove(path string, stop func() error) error {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer closeFD(dir)
	return removeAt(dir, filepath.Base(path), path, stop)
}

func removeAt(dir int, name, path string, stop func() error) error {
	r := remover{walker: walker{top: dir, path: path, stop: stop}}
	r.walker.entry, r.walker.left, r.walker.failed = r.entry, r.left, r.failed
	if r.entry(dir, name, unix.DT_UNKNOWN) {
		r.enter(dir, name)
	}
	if err := r.walk(); err != nil {
		return err
	}
	return r.err
}

type remover struct {
	walker
	removed int // names
	again   int // removed when a directory was last gone through once more
	err     error
}

func (r *remover) failed(err error) {
	if r.err == nil {
		r.err = err
	}
}

// entry deletes what is no directory.
func (r *remover) entry(dir int, name string, kind byte) (enter bool) {
	if kind == unix.DT_DIR {
		return true
	}
	err := unlink(dir, name, 0)
	switch {
	case err == nil:
		r.removed++
	case errors.Is(err, unix.EISDIR):
		return true
	case errors.Is(err, unix.ENOENT):
	default:
		r.failed(r.errorf("delete", name, err))
	}
	return false
}

// left deletes a directory. Something can be in it that was not seen: that came meanwhile, or because
// where reading goes on depends, on some file systems, on what has been deleted before.
func (r *remover) left(dir int, name string) (again bool) {
	err := unlink(dir, name, unix.AT_REMOVEDIR)
	switch {
	case err == nil:
		r.removed++
	case errors.Is(err, unix.ENOENT):
	case errors.Is(err, unix.ENOTEMPTY) && r.err == nil && r.removed > r.again:
		r.again = r.removed
		return true
	default:
		r.failed(r.errorf("delete", name, err))
	}
	return false
}

// unlink deletes a name; where it or its directory is marked immutable or append-only (chattr(1)), the
// mark goes first.
func unlink(dir int, name string, flags int) error {
	err := unix.Unlinkat(dir, name, flags)
	if err != unix.EPERM {
		return err
	}
	unmark(dir, ".")
	unmark(dir, name)
	return unix.Unlinkat(dir, name, flags)
}

// unmark takes the marks away that keep a file or directory from being deleted, if it has them and
// they can be taken away.
func unmark(dir int, name string) {
	const immutable, appendOnly = 0x10, 0x20 // linux/fs.h, FS_IMMUTABLE_FL and FS_APPEND_FL
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFDIR && kind != unix.S_IFREG {
		return
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer closeFD(fd)
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && flags&(immutable|appendOnly) != 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^(immutable|appendOnly))
	}
}
