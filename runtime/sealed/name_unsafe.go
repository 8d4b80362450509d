package sealed

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setName sets the process's name as ps shows it. It is called on the main thread, whose name that is.
func setName(name string) error {
	b := append([]byte(name), 0)
	return unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0)
}
