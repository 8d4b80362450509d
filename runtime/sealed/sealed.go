// Package sealed runs this program from a file that nobody can write to.
//
// A process that enters a container is, until its execve, a copy of the runtime: what the container names as its
// program can be /proc/self/exe, and then the runtime itself is executed in the container, where its file can be
// opened through /proc/PID/exe and, once it is not running any more, written to, by whoever is root there
// (CVE-2019-5736). Through a read-only mount it can't be. The mount is a clone of the one file, detached: it is in
// nobody's namespace, so nobody can make it writable again, and it costs no memory, which a copy would.
//
// It promises that a program which came through Self, or was started from the descriptor of Open, has such a
// file. It must not know what the program does.
package sealed

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	_ "github.com/berth-engine/berth/internal/mapped" // the entry point goes on there
	"golang.org/x/sys/unix"
)

const self = "/proc/self/exe"

// Open returns a descriptor of the program at path from which it is to be executed (as /proc/self/fd/N). The
// caller closes it once it was.
func Open(path string) (*os.File, error) {
	fd, err := readOnly(path)
	if err != nil {
		fd, err = copied(path)
	}
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Self makes sure that this program runs from a sealed file, by executing it once more where it does not: then it
// does not return. name is shown as the process's name.
func Self(name string) error {
	if is, err := isSealed(); err != nil {
		return fmt.Errorf("look whether %s is sealed: %w", self, err)
	} else if is {
		return setName(name) // it would be the descriptor's number
	}
	f, err := Open(self)
	if err != nil {
		return err
	}
	if err := syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.Args, os.Environ()); err != nil {
		return errors.Join(fmt.Errorf("execute the sealed %s: %w", self, err), f.Close())
	}
	return nil
}

func isSealed() (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(self, &st); err != nil {
		return false, err
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return true, nil
	}
	fd, err := unix.Open(self, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err == nil && seals&allSeals == allSeals, nil
}

// readOnly clones the file's mount.
func readOnly(path string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

const allSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// copied copies the file into memory, for those who may not mount.
func copied(path string) (int, error) {
	from, err := os.Open(path)
	if err != nil {
		return -1, err
	}
	defer from.Close()
	const executable = 0x10 // MFD_EXEC, which kernels before 6.3 don't know
	fd, err := unix.MemfdCreate("berth-runtime", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|executable)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("berth-runtime", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, err
	}
	to := os.NewFile(uintptr(fd), "copy")
	_, err = io.Copy(to, from)
	if err == nil {
		_, err = unix.FcntlInt(to.Fd(), unix.F_ADD_SEALS, allSeals)
	}
	if err == nil { // opened anew, for reading only: a file that is open for writing is not executed
		fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", to.Fd()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	return fd, errors.Join(err, to.Close())
}
