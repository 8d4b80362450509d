package build

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// listTree lists a mounted tree without /bin: path → "mode uid:gid content".
func listTree(t *testing.T, root *os.File) map[string]string {
	t.Helper()
	out := map[string]string{}
	var walk func(dir string)
	walk = func(dir string) {
		fd, err := unix.Openat(int(root.Fd()), path.Join(".", dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(dir, err)
		}
		f := os.NewFile(uintptr(fd), dir)
		defer f.Close()
		names, err := f.Readdirnames(-1)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			p := path.Join(dir, name)
			if p == "bin" {
				continue
			}
			var st unix.Stat_t
			if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				t.Fatal(err)
			}
			out[p] = describe(t, fd, name, &st)
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				walk(p)
			}
		}
	}
	walk("")
	return out
}

func describe(t *testing.T, dir int, name string, st *unix.Stat_t) string {
	t.Helper()
	own := fmt.Sprintf("%o %d:%d", st.Mode&0o7777, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return own + " dir"
	case unix.S_IFLNK:
		b := make([]byte, 4096)
		n, err := unix.Readlinkat(dir, name, b)
		if err != nil {
			t.Fatal(err)
		}
		return "-> " + string(b[:n])
	case unix.S_IFREG:
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), name)
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		return own + " " + strings.TrimSuffix(string(b), "\n")
	}
	return fmt.Sprintf("%s special %o %d", own, st.Mode&unix.S_IFMT, st.Rdev)
}
