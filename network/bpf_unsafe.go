package network

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loadProgram loads instructions as a classifier (BPF_PROG_TYPE_SCHED_CLS). The caller closes it.
func loadProgram(instructions []byte) (*os.File, error) {
	const instructionSize = 8
	license := []byte("Apache-2.0\x00") // it calls nothing that only GPL programs may
	// The beginning of union bpf_attr (linux/bpf.h); the kernel takes the rest for zeros.
	attr := struct {
		kind, count           uint32
		instructions, license uint64
		logLevel, logSize     uint32
		log                   uint64
		version, flags        uint32
		name                  [16]byte
	}{
		kind:         unix.BPF_PROG_TYPE_SCHED_CLS,
		count:        uint32(len(instructions) / instructionSize),
		instructions: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(instructions)))),
		license:      uint64(uintptr(unsafe.Pointer(unsafe.SliceData(license)))),
		name:         [16]byte{'b', 'e', 'r', 't', 'h', '_', 'l', 'o', 'o', 'p', 'b', 'a', 'c', 'k'},
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(instructions)
	runtime.KeepAlive(license)
	if errno != 0 {
		return nil, os.NewSyscallError("bpf", errno)
	}
	return os.NewFile(fd, "bpf"), nil
}
