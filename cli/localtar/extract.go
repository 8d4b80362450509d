package localtar

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Extract unpacks r below dir, which is there. The first component of each name is replaced: from
// becomes to; with an empty from, to is put before each name. It returns how many bytes of files it
// wrote.
func Extract(r io.Reader, dir, from, to string) (int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	x := &extractor{root: root}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return x.bytes, fmt.Errorf("the archive: %w", err)
		}
		name := rebase(h.Name, from, to)
		if h.Typeflag == tar.TypeLink {
			h.Linkname = rebase(h.Linkname, from, to)
		}
		if err := x.entry(h, name, t); err != nil {
			return x.bytes, fmt.Errorf("%s: %w", path.Join(dir, name), err)
		}
	}
	return x.bytes, x.finish()
}

// rebase replaces the first component. A name that is no more than dots and slashes is the directory
// itself.
func rebase(name, from, to string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if from == "" {
		return path.Join(to, name)
	}
	if name == from {
		return to
	}
	if rest, ok := strings.CutPrefix(name, from+"/"); ok {
		return path.Join(to, rest)
	}
	return name
}

type extractor struct {
	root  *os.Root
	bytes int64
	dirs  []dirState // whose mode and time are set at the end: writing into them changes the time
}

type dirState struct {
	name string
	mode fs.FileMode
	time time.Time
}

func (x *extractor) entry(h *tar.Header, name string, content io.Reader) error {
	if name == "" {
		name = "."
	}
	mode := fs.FileMode(h.Mode).Perm() | h.FileInfo().Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)
	if name != "." {
		if err := x.root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeDir {
		return x.dir(name, mode, h.ModTime)
	}
	if err := x.clear(name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return x.file(name, mode, h, content)
	case tar.TypeSymlink:
		return x.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return x.root.Link(h.Linkname, name)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return x.node(name, h)
	}
	return fmt.Errorf("an entry of the kind %q", h.Typeflag)
}

func (x *extractor) dir(name string, mode fs.FileMode, modified time.Time) error {
	info, err := x.root.Lstat(name)
	switch {
	case err == nil && !info.IsDir():
		return errors.New("a directory cannot replace what is there")
	case errors.Is(err, fs.ErrNotExist):
		if err := x.root.Mkdir(name, 0o700); err != nil {
			return err
		}
	case err != nil:
		return err
	case name == ".":
		return nil // it was there before, and keeps what it has
	}
	x.dirs = append(x.dirs, dirState{name, mode, modified})
	return nil
}

// clear makes room for something that is no directory.
func (x *extractor) clear(name string) error {
	info, err := x.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errors.New("a directory is there, and is not replaced by something else")
	}
	return x.root.Remove(name)
}

func (x *extractor) file(name string, mode fs.FileMode, h *tar.Header, content io.Reader) error {
	f, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(f, content)
	x.bytes += n
	if err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return x.root.Chtimes(name, h.ModTime, h.ModTime)
}

// node makes a device or a pipe: in the directory that os.Root found, so that it is confined too.
func (x *extractor) node(name string, h *tar.Header) error {
	parent, err := x.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer parent.Close()
	kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
	dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	if err := unix.Mknodat(int(parent.Fd()), path.Base(name), kind|uint32(h.Mode&0o777), int(dev)); err != nil {
		return fmt.Errorf("a device or pipe could not be made: %w", err)
	}
	return nil
}

// finish sets what directories say, the innermost first.
func (x *extractor) finish() error {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		d := x.dirs[i]
		if err := x.root.Chmod(d.name, d.mode); err != nil {
			return err
		}
		if err := x.root.Chtimes(d.name, d.time, d.time); err != nil {
			return err
		}
	}
	return nil
}
