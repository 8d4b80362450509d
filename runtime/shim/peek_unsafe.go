package shim

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// peek returns the pid of a child that has died and was not reaped, 0 if there is none.
func peek() (int, error) {
	var info struct {
		signo, errno, code, _ int32
		pid                   int32
		_                     [108]byte // siginfo has 128 bytes
	}
	for {
		err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return int(info.pid), err
		}
	}
}
