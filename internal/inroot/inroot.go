// Package inroot opens what others named, confined to a root: openat2(2) with RESOLVE_IN_ROOT, so
// that "..", absolute paths and symbolic links end inside, whatever changes the tree meanwhile.
package inroot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Open opens path inside root with the flags of open(2) (O_CLOEXEC is added); mode matters with
// O_CREAT. Links to /proc's magic are refused. The caller closes the file.
func Open(root *os.File, path string, flags int, mode fs.FileMode) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 {
		how.Mode = uint64(mode.Perm())
	}
	for {
		fd, err := unix.Openat2(int(root.Fd()), path, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), filepath.Join("/", path)), nil
		case unix.EINTR, unix.EAGAIN: // EAGAIN: a rename raced with the walk (openat2(2))
			continue
		}
		return nil, &fs.PathError{Op: "open", Path: filepath.Join("/", path), Err: err}
	}
}

// Beneath opens a clean, relative path ("" is root itself) below root with the flags of open(2) (O_CLOEXEC and
// O_NOFOLLOW are added; what O_CREAT makes has mode 0600), through no symbolic link whatever: one on the way is
// ELOOP. The caller closes the file, whose name is the path with a slash before it.
func Beneath(root *os.File, path string, flags int) (*os.File, error) {
	name := path
	if name == "" {
		name = "."
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flags&unix.O_CREAT != 0 {
		how.Mode = 0o600
	}
	for {
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), "/"+path), nil
		case unix.EINTR, unix.EAGAIN: // EAGAIN: a rename raced with the walk (openat2(2))
			continue
		}
		return nil, &fs.PathError{Op: "open", Path: "/" + path, Err: err}
	}
}

// ErrNotRegular is wrapped by ReadFile for whatever is not a regular file.
var ErrNotRegular = errors.New("not a regular file")

// ReadFile reads a regular file of at most limit bytes. It looks before it opens for reading: a FIFO
// or a device that a container put there is never opened (rules: "files that a container can write").
func ReadFile(root *os.File, path string, limit int64) ([]byte, error) {
	f, err := OpenRegular(root, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return b, nil
}

// OpenRegular opens a regular file for reading, links followed inside the root. The error wraps
// ErrNotRegular for anything else.
func OpenRegular(root *os.File, path string) (*os.File, error) {
	found, err := Open(root, path, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	info, err := found.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	return Reopen(found, unix.O_RDONLY) // the same file, which can't make us wait
}

// Reopen opens again, with flags, what an O_PATH descriptor stands for.
func Reopen(f *os.File, flags int) (*os.File, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
