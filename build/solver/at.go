package solver

import (
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/session"
)

func procFD(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// readXattrs reads the attributes of what f (perhaps O_PATH) stands for, sorted, without those that
// belong to the host or to overlayfs.
func readXattrs(f *os.File) ([]session.Xattr, error) {
	// By the magic link, not by the descriptor: fgetxattr(2) refuses O_PATH. The link itself is followed,
	// what it leads to is not: it is opened already.
	p := procFD(f)
	buf := make([]byte, 1024)
	n, err := unix.Listxattr(p, buf)
	for err == unix.ERANGE {
		buf = make([]byte, 64<<10)
		n, err = unix.Listxattr(p, buf)
	}
	if err == unix.ENOTSUP || err == unix.ENODATA || n <= 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: f.Name(), Err: err}
	}
	var out []session.Xattr
	for key := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if hostXattr(key) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Getxattr(p, key, value)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr", Path: f.Name(), Err: err}
		}
		out = append(out, session.Xattr{Name: key, Value: string(value[:n])})
	}
	slices.SortFunc(out, func(a, b session.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func hostXattr(key string) bool {
	for _, prefix := range []string{"trusted.overlay.", "user.overlay.", "security.selinux", "security.ima", "security.evm", "security.apparmor"} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// setXattr sets an attribute of what f stands for. A file system that has none of the kind is no error.
func setXattr(f *os.File, x session.Xattr) error {
	err := unix.Setxattr(procFD(f), x.Name, []byte(x.Value), 0)
	if err == unix.ENOTSUP {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "setxattr " + x.Name, Path: f.Name(), Err: err}
	}
	return nil
}
