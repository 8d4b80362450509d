package e2e

import (
	"fmt"
	"os"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdResident says how many of a file's pages are in the page cache: resident FILE.
func cmdResident(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: resident FILE")
	}
	f, err := os.Open(args[0])
	ts.Check(err)
	defer f.Close()
	info, err := f.Stat()
	ts.Check(err)
	m, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	ts.Check(err)
	defer func() { ts.Check(unix.Munmap(m)) }()
	pages := make([]byte, (len(m)+os.Getpagesize()-1)/os.Getpagesize())
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&pages[0])))
	if errno != 0 {
		ts.Fatalf("mincore: %v", errno)
	}
	in := 0
	for _, p := range pages {
		in += int(p & 1)
	}
	_, err = fmt.Fprintf(ts.Stdout(), "%d of %d\n", in, len(pages))
	ts.Check(err)
}
