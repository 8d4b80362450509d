package client

import (
	"encoding/binary"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/internal/fileattr"
)

// root is an open directory of which files are listed and read, and nothing outside it.
type root struct{ f *os.File }

func openRoot(dir string) (root, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	return root{f}, err
}

func (r root) close() error { return r.f.Close() }

// open opens path below the root, through no link whatever.
func (r root) open(path string, flags uint64) (int, error) {
	if path == "" {
		path = "."
	}
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(int(r.f.Fd()), path, &how)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return fd, nil
	}
}

// lstat stats path below the root; its directory must be no link.
func (r root) lstat(path string, st *unix.Stat_t) error {
	fd, err := r.open(path, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, st)
}

// readlink reads a link below the root.
func (r root) readlink(path string) (string, error) {
	fd, err := r.open(path, unix.O_PATH)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return readlinkat(fd, "")
}

func readlinkat(dir int, name string) (string, error) {
	for size := 128; ; size *= 2 {
		b := make([]byte, size)
		n, err := unix.Readlinkat(dir, name, b)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(b[:n]), nil
		}
	}
}

// name is one of a directory's.
type name struct {
	name string
	typ  byte // DT_*, DT_UNKNOWN where the file system doesn't say
}

// names reads the directory fd, sorted.
func names(fd int, buf []byte) ([]name, error) {
	var out []name
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			break
		}
		for b := buf[:n]; len(b) > 0; {
			// struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name
			length := binary.NativeEndian.Uint16(b[16:])
			raw := b[19:length]
			if i := slices.Index(raw, 0); i >= 0 {
				raw = raw[:i]
			}
			if s := string(raw); s != "." && s != ".." {
				out = append(out, name{s, b[18]})
			}
			b = b[length:]
		}
	}
	slices.SortFunc(out, func(a, b name) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

func entry(st *unix.Stat_t) session.Entry {
	e := session.Entry{
		Mode: st.Mode, Mtime: time.Unix(st.Mtim.Unix()).UnixNano(), Ctime: time.Unix(st.Ctim.Unix()).UnixNano(), Inode: st.Ino,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Size = st.Size
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Rdev = st.Rdev
	}
	return e
}

// xattrs reads the attributes of an open file that belong to its content.
func xattrs(fd int) ([]session.Xattr, error) {
	buf := make([]byte, 1024)
	n, err := unix.Flistxattr(fd, buf)
	for err == unix.ERANGE {
		buf = make([]byte, 64<<10)
		n, err = unix.Flistxattr(fd, buf)
	}
	if err == unix.ENOTSUP || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []session.Xattr
	for key := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if !fileattr.AllowedName(key) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Fgetxattr(fd, key, value)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, err
		}
		if fileattr.Allowed(key, string(value[:n])) {
			out = append(out, session.Xattr{Name: key, Value: string(value[:n])})
		}
	}
	slices.SortFunc(out, func(a, b session.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
