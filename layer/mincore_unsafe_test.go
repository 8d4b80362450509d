package layer

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mincore says of each page of a mapping whether it is in memory: the lowest bit (mincore(2)).
func mincore(m []byte) ([]byte, error) {
	pages := make([]byte, (len(m)+os.Getpagesize()-1)/os.Getpagesize())
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&pages[0])))
	if errno != 0 {
		return nil, errno
	}
	return pages, nil
}
