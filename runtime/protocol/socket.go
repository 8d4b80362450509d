package protocol

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// SocketName is the shim's socket in the container's run-time directory.
const SocketName = "shim.sock"

// Pair returns the two ends of a new connection. Neither blocks.
func Pair() (ours, theirs *os.File, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(p[0]), "shim connection"), os.NewFile(uintptr(p[1]), "engine connection"), nil
}

// Listen makes the socket in dir. The path may be longer than a socket's address: it goes through the directory's
// descriptor.
func Listen(dir string) (*os.File, error) {
	fd, err := socket(dir, func(fd int, address *unix.SockaddrUnix) error {
		// The name is new: a directory serves one shim.
		if err := unix.Bind(fd, address); err != nil {
			return os.NewSyscallError("bind", err)
		}
		return os.NewSyscallError("listen", unix.Listen(fd, 128))
	})
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", filepath.Join(dir, SocketName), err)
	}
	return os.NewFile(uintptr(fd), "shim socket"), nil
}

// Dial connects to the shim that listens in dir.
func Dial(dir string) (*os.File, error) {
	fd, err := socket(dir, func(fd int, address *unix.SockaddrUnix) error {
		for {
			if err := unix.Connect(fd, address); err != unix.EINTR {
				return os.NewSyscallError("connect", err)
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", filepath.Join(dir, SocketName), err)
	}
	return os.NewFile(uintptr(fd), "shim connection"), nil
}

func socket(dir string, use func(fd int, address *unix.SockaddrUnix) error) (int, error) {
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("open", err)
	}
	defer unix.Close(d)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := use(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(d) + "/" + SocketName}); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func keepAlive(files []*os.File) { runtime.KeepAlive(files) }
