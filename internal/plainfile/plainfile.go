// Package plainfile opens and reads files that never make anybody wait: regular ones, directories, those of /proc and
// of cgroups.
//
// os.OpenFile asks Go's poller about each, which is set up for the first: five system calls a file, and some of a
// start's first millisecond. It promises descriptors that are closed on execve, and os' errors. It must not be used
// for what can block: a pipe, a socket, a terminal.
package plainfile

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Open is os.OpenFile. The caller closes the file.
func Open(path string, flags int, mode fs.FileMode) (*os.File, error) {
	fd, err := open(path, flags, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func open(path string, flags int, mode fs.FileMode) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, uint32(mode.Perm()))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return fd, nil
	}
}

// Read is os.ReadFile.
func Read(path string) (content []byte, err error) {
	fd, err := open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	content = make([]byte, 0, 4<<10)
	for {
		n, err := unix.Read(fd, content[len(content):cap(content)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return content, nil
		}
		if content = content[:len(content)+n]; len(content) == cap(content) {
			content = append(content, 0)[:len(content)]
		}
	}
}

// Write is os.WriteFile.
func Write(path string, content []byte, mode fs.FileMode) (err error) {
	fd, err := open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	for len(content) > 0 {
		n, err := unix.Write(fd, content)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "write", Path: path, Err: err}
		}
		content = content[n:]
	}
	return nil
}

// ReadDir is os.ReadDir, in the directory's own order.
func ReadDir(path string) ([]fs.DirEntry, error) {
	f, err := Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	return entries, errors.Join(err, f.Close())
}
