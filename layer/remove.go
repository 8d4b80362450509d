package layer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/inroot"
)

// maxDepth is how many directories removeAt keeps open at a time. A container can nest directories
// deeper than paths are long and than a process may have descriptors.
const maxDepth = 64

// removeTree deletes path and all that is in it; that there is none is no error. No link is followed.
func removeTree(path string) error {
	dir, err := openRoot(filepath.Dir(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return removeAt(dir, filepath.Base(path))
}

// removeAt deletes a name of dir and all that is in it.
func removeAt(dir *os.File, name string) error {
	r := remover{top: dir}
	if err := r.remove(dir, name, 0); err != nil {
		return err
	}
	for len(r.deep) > 0 {
		next := r.deep[len(r.deep)-1]
		r.deep = r.deep[:len(r.deep)-1]
		if err := r.remove(dir, next, 0); err != nil {
			return err
		}
	}
	return nil
}

// remover deletes a tree. What lies too deep is moved up first: into top, under a name of its own.
type remover struct {
	top   *os.File
	deep  []string
	count int
}

func (r *remover) remove(dir *os.File, name string, depth int) error {
	err := unlink(dir, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return &os.PathError{Op: "delete", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	sub, err := openBeneath(dir, name)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := r.clear(sub, depth); err != nil {
		return err
	}
	if err := unlink(dir, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "delete", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return nil
}

// clear deletes all that is in a directory.
func (r *remover) clear(dir *os.File, depth int) error {
	list, err := inroot.Reopen(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer list.Close()
	for {
		names, read := list.Readdirnames(1024)
		for _, name := range names {
			var err error
			if depth < maxDepth {
				err = r.remove(list, name, depth+1)
			} else {
				err = r.lift(list, name)
			}
			if err != nil {
				return err
			}
		}
		if errors.Is(read, io.EOF) {
			return nil
		}
		if read != nil {
			return read
		}
	}
}

// lift moves a name of dir to the top, to be removed later.
func (r *remover) lift(dir *os.File, name string) error {
	for {
		r.count++
		to := fmt.Sprintf(".deleted-%d-%d", os.Getpid(), r.count)
		err := unix.Renameat2(int(dir.Fd()), name, int(r.top.Fd()), to, unix.RENAME_NOREPLACE)
		switch err {
		case nil:
			r.deep = append(r.deep, to)
			return nil
		case unix.ENOENT:
			return nil
		case unix.EEXIST:
			continue
		}
		return &os.PathError{Op: "delete", Path: filepath.Join(dir.Name(), name), Err: err}
	}
}

// unlink deletes a name; where it or its directory is marked immutable or append-only (chattr(1)), the
// mark goes first.
func unlink(dir *os.File, name string, flags int) error {
	err := unix.Unlinkat(int(dir.Fd()), name, flags)
	if err != unix.EPERM {
		return err
	}
	unmark(dir, ".")
	unmark(dir, name)
	return unix.Unlinkat(int(dir.Fd()), name, flags)
}

// unmark takes the marks away that keep a file or directory from being deleted, if it has them and
// they can be taken away.
func unmark(dir *os.File, name string) {
	const immutable, appendOnly = 0x10, 0x20 // linux/fs.h, FS_IMMUTABLE_FL and FS_APPEND_FL
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || !isDir(st.Mode) && !isRegular(st.Mode) {
		return
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && flags&(immutable|appendOnly) != 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^(immutable|appendOnly))
	}
}
