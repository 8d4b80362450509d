package profile

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/seccomp"
)

// load puts the calling thread under the filter.
func load(p seccomp.Program) error {
	filter := unsafe.Slice((*unix.SockFilter)(unsafe.Pointer(&p.BPF[0])), len(p.BPF)/8)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(p.Flags), uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errors.New("seccomp: " + errno.Error())
	}
	return nil
}
