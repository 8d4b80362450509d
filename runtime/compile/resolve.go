package compile

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/berth-engine/berth/internal/inroot"
	"github.com/berth-engine/berth/internal/plainfile"
	"golang.org/x/sys/unix"
)

// resolved follows links of the rootfs that lead to something missing (/etc/resolv.conf of a distribution
// with systemd), so that the mount's target is made where the link points. It only chooses a name: the
// steps that make it are confined whatever it says. Without a rootfs to look at, or below another mount,
// the name stays.
func (b *builder) resolved(dest string) string {
	for d := range b.made {
		if _, ok := below(dest, d); ok {
			return dest
		}
	}
	root := b.in.Root
	if root == nil {
		if b.rootPath() == "" {
			return dest
		}
		f, err := plainfile.Open(b.rootPath(), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return dest
		}
		defer f.Close()
		root = f
	}
	return follow(root, dest)
}

const maxLinks = 40

// follow resolves p below root component by component, until one is missing; the rest is taken as it is.
func follow(root *os.File, p string) string {
	at, rest, links := "/", strings.Split(relative(p), "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, name)
		target, err := readlink(root, next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return path.Join(append([]string{next}, rest...)...)
		case err != nil: // no link
			at = next
			continue
		}
		if links++; links > maxLinks {
			return clean(p)
		}
		if strings.HasPrefix(target, "/") {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at
}

// readlink reads the link at p below root; the error is EINVAL where there is something else.
func readlink(root *os.File, p string) (string, error) {
	f, err := inroot.Open(root, p, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if errors.Is(err, unix.ENOENT) { // what an O_PATH descriptor of anything but a link answers
		err = unix.EINVAL
	}
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
