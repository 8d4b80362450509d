package shim

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// become makes the process one that was started for the container id, with its last words in log: one that has kept
// another container before was not. "" leaves the log as it is.
func become(id, log string) error {
	if len(os.Args) > 2 && len(os.Args[2]) == len(id) { // a string on the memory that the kernel shows
		copy(unsafe.Slice(unsafe.StringData(os.Args[2]), len(id)), id)
	}
	if log == "" {
		return nil
	}
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Dup3(int(f.Fd()), 2, 0)
}
