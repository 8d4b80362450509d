package testroot

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Deny makes a system call fail with errno in this whole process, from now on. With flags it fails only where its third
// argument has one of them.
func Deny(nr uint32, errno syscall.Errno, flags uint32) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // or it would take root
		return os.NewSyscallError("prctl", err)
	}
	const number, third = 0, 16 + 2*8 // in struct seccomp_data: the call, the lower half of its third argument
	fail := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)}
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: nr},
		allow,
	}
	if flags != 0 {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: third},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jt: 1, K: flags},
			allow,
		)
	}
	filter = append(filter, fail)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, refused := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if refused != 0 {
		return os.NewSyscallError("seccomp", refused)
	}
	return nil
}
