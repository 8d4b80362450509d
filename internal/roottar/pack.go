package roottar

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/berth-engine/berth/internal/fileattr"
	"github.com/berth-engine/berth/internal/inroot"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// PackOptions say how a tree becomes a tar.
type PackOptions struct {
	// Name is the name of the tree's root in the tar; "" or "." for entries below "./".
	Name string
	// FollowRoot follows a symbolic link at the path itself, inside the root.
	FollowRoot bool
	// OneFileSystem leaves out what is below other mounts (their mount points are in).
	OneFileSystem bool
}

// Pack writes the tree at path below root as a tar: sorted, PAX where the old form is too small,
// owners as numbers, with extended attributes (capabilities, ACLs, user.*) and hard links; sockets are left out. A file that
// shrinks while it is read is filled with zeros, one that grows is cut. A tree of more than 1,000
// directories within one another, or with names longer than a path can be, which nobody could unpack,
// is errdefs.ErrFailedPrecondition.
func Pack(ctx context.Context, root *os.File, name string, w io.Writer, o PackOptions) error {
	flags := unix.O_PATH
	if !o.FollowRoot {
		flags |= unix.O_NOFOLLOW
	}
	f, err := inroot.Open(root, name, flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	p := packer{ctx: ctx, tw: tar.NewWriter(w), links: map[inode]string{}, options: o}
	as := strings.Trim(path.Clean("/"+o.Name), "/")
	if err := p.add(f, as); err != nil {
		return err
	}
	return p.tw.Close()
}

type inode struct{ dev, ino uint64 }

type packer struct {
	ctx     context.Context
	tw      *tar.Writer
	links   map[inode]string // first name of a file with several
	options PackOptions
	dev     uint64 // of the tree's root
	begun   bool
	depth   int // directories that are being gone through
}

// maxDepth is how many directories may lie within one another. Each takes a descriptor and its whole
// name while it is gone through, and a container can make as many as there are inodes.
const maxDepth = 1000

func tooDeep(as string) error {
	return fmt.Errorf("directories are nested too deep for a tar (more than %d, or names of more than %d bytes) below %.60s…: %w", maxDepth, unix.PathMax-1, as, errdefs.ErrFailedPrecondition)
}

// add writes what the O_PATH descriptor f stands for, under the name as.
func (p *packer) add(f *os.File, as string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if len(as) >= unix.PathMax {
		return tooDeep(as)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: as, Err: err}
	}
	if !p.begun {
		p.begun, p.dev = true, st.Dev
	}
	h, err := header(f, as, &st)
	if err != nil || h == nil {
		return err
	}
	if h.Typeflag == tar.TypeReg && st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		if first, known := p.links[key]; known {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		} else {
			p.links[key] = h.Name
		}
	}
	if err := p.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", as, err)
	}
	switch {
	case h.Typeflag == tar.TypeReg && h.Size > 0:
		return p.content(f, h.Size)
	case h.Typeflag == tar.TypeDir && (!p.options.OneFileSystem || st.Dev == p.dev):
		return p.children(f, as)
	}
	return nil
}

// header describes an entry; nil for what has no place in a tar.
func header(f *os.File, as string, st *unix.Stat_t) (*tar.Header, error) {
	h := &tar.Header{
		Name: as, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Sec, 0), Format: tar.FormatPAX,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, as+"/"
		if as == "" {
			h.Name = "./"
		}
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(f.Fd()), "", target)
		if err != nil {
			return nil, &fs.PathError{Op: "readlink", Path: as, Err: err}
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(target[:n])
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, nil
	}
	return h, xattrs(f, h)
}

const paxXattr = "SCHILY.xattr."

// xattrs are read through /proc/self/fd: an O_PATH descriptor has none of its own.
func xattrs(f *os.File, h *tar.Header) error {
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	at := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Listxattr(at, list)
	if err == unix.ENOTSUP || n == 0 {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "listxattr", Path: h.Name, Err: err}
	}
	names := strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00")
	slices.Sort(names)
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for _, name := range names {
		if !fileattr.AllowedName(name) && !fileattr.IsACL(name) {
			continue
		}
		n, err := unix.Getxattr(at, name, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "getxattr " + name, Path: h.Name, Err: err}
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+name] = string(value[:n])
	}
	return nil
}

func (p *packer) content(f *os.File, size int64) error {
	r, err := inroot.Reopen(f, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(p.tw, io.LimitReader(r, size))
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	_, err = io.Copy(p.tw, io.LimitReader(zeros{}, size-n))
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// children writes what is in the directory f, which it closes: one descriptor a level is enough.
func (p *packer) children(f *os.File, as string) error {
	if p.depth++; p.depth > maxDepth {
		return tooDeep(as)
	}
	defer func() { p.depth-- }()
	dir, err := inroot.Reopen(f, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	f.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue // gone since it was listed
		}
		if err != nil {
			return &fs.PathError{Op: "open", Path: path.Join(as, name), Err: err}
		}
		childAs := path.Join(as, name)
		child := os.NewFile(uintptr(fd), childAs)
		err = p.add(child, childAs)
		child.Close() // a directory is closed already
		if err != nil {
			return err
		}
	}
	return nil
}
