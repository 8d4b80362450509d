package compile

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

const instructionSize = 8 // struct sock_filter

// filter installs the seccomp program. After it only what must be: every call could be denied.
func (b *builder) filter() error {
	n := len(b.in.Filter)
	if n == 0 {
		return nil
	}
	if n%instructionSize != 0 || n/instructionSize > 4096 {
		return fmt.Errorf("seccomp program of %d bytes: it must be whole instructions of 8 bytes, at most 4096", n)
	}
	prog := make([]byte, 16) // struct sock_fprog
	binary.NativeEndian.PutUint16(prog, uint16(n/instructionSize))
	p := b.Bytes(fmt.Sprint(n/instructionSize, " instructions"), prog)
	b.PutAddress(p, 8, b.Bytes("instructions", b.in.Filter))
	if b.in.FilterFlags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
		return fmt.Errorf("seccomp notifications are not supported yet")
	}
	b.Do("install the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uint64(b.in.FilterFlags), p)
	return nil
}
