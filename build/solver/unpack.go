package solver

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/tree"
	"github.com/berth-engine/berth/internal/fileattr"
	"github.com/berth-engine/berth/layer/erofs"
)

// unpack unpacks n into the directory dest of t, if n is a tar, compressed or not, and says whether it
// is. The archive is hostile: nothing of it gets out of dest, whatever its names and links say.
func unpack(ctx context.Context, v view, n *node, t *target, dest string, own *owner) (bool, error) {
	c, err := v.open(n)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if !isArchive(c) {
		return false, nil
	}
	if _, err := c.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	plain, err := tree.Decompress(c)
	if err != nil {
		return false, err
	}
	defer plain.Close()
	at, err := t.resolveNew(dest)
	if err != nil {
		return false, err
	}
	if _, err := t.mkdirAll(at, 0o755, own, nil); err != nil {
		return false, err
	}
	inside, err := t.at(at, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer inside.Close()
	u := newUnpacker(newTarget(inside, t.time), own)
	defer u.t.close() // an O_PATH descriptor
	if err := u.all(ctx, tar.NewReader(bufio.NewReaderSize(plain, 64<<10))); err != nil {
		return true, fmt.Errorf("unpack %s: %w", n.name(), err)
	}
	return true, nil
}

// isArchive says whether r is a tar, perhaps compressed.
func isArchive(r io.Reader) bool {
	plain, err := tree.Decompress(r)
	if err != nil {
		return false
	}
	defer plain.Close()
	_, err = tar.NewReader(plain).Next()
	return err == nil
}

// unpacker unpacks below t's root.
type unpacker struct {
	t        *target
	own      *owner
	dirTimes map[string]time.Time // set at the end: what is put into a directory changes its time

	// What a layer can hold: of names, and of the bytes of those that dirTimes has.
	limits erofs.Limits
	names  int
	held   int64
}

func newUnpacker(t *target, own *owner) *unpacker {
	return &unpacker{t: t, own: own, dirTimes: map[string]time.Time{}, limits: erofs.DefaultLimits()}
}

// count counts names that were made, or are about to be.
func (u *unpacker) count(n int) error {
	if u.names += n; u.names > u.limits.Inodes {
		return refuse("the archive has more than %d names, which is more than a layer can hold", u.limits.Inodes)
	}
	return nil
}

// later remembers a directory's time until everything in it is there.
func (u *unpacker) later(p string, when time.Time) error {
	const each = 128 // of an entry in a map
	if _, known := u.dirTimes[p]; !known {
		u.held += int64(each + len(p))
	}
	if u.held > u.limits.Metadata {
		return refuse("the archive has too many directories: their names take more than %d bytes", u.limits.Metadata)
	}
	u.dirTimes[p] = when
	return nil
}

func (u *unpacker) all(ctx context.Context, tr *tar.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		if err := u.count(1); err != nil {
			return err
		}
		if err := u.entry(ctx, h, tr); err != nil {
			return err
		}
	}
	dirs := make([]string, 0, len(u.dirTimes))
	for d := range u.dirTimes {
		dirs = append(dirs, d)
	}
	slices.Sort(dirs)
	for _, d := range slices.Backward(dirs) {
		when := u.dirTimes[d]
		dir, name, err := u.t.parent(d)
		if err != nil {
			return err
		}
		if err := u.t.setTimeAt(dir, name, d, &when); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

func refuse(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// place finds where a name goes: its directory with all links followed inside the root, made where it
// is missing; the last component as it is. "" is the root.
func (u *unpacker) place(name string) (string, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", refuse("%q leads out of the archive", name)
	}
	clean := path.Clean("/" + name)[1:]
	if clean == "" {
		return "", nil
	}
	dir, last := path.Split(clean)
	at, err := u.t.resolveNew(dir)
	if err != nil {
		return "", err
	}
	made, err := u.t.mkdirAll(at, 0o755, nil, nil)
	if err != nil {
		return "", err
	}
	return path.Join(at, last), u.count(len(made))
}

func (u *unpacker) entry(ctx context.Context, h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	p, err := u.place(h.Name)
	if err != nil || p == "" {
		return err
	}
	st, err := u.t.stat(p)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir && isDir(st) {
		return u.attributes(h, p, unix.S_IFDIR)
	}
	if st != nil {
		if err := u.t.remove(p); err != nil {
			return err
		}
	}
	typ, err := u.make(ctx, h, p, r)
	if err != nil || h.Typeflag == tar.TypeLink {
		return err
	}
	return u.attributes(h, p, typ)
}

func (u *unpacker) make(ctx context.Context, h *tar.Header, p string, r io.Reader) (uint32, error) {
	dir, name, err := u.t.parent(p)
	if err != nil {
		return 0, err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return unix.S_IFDIR, pathError("mkdir", p, unix.Mkdirat(dir, name, 0o700))
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return unix.S_IFREG, u.regular(ctx, p, r)
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) >= unix.PathMax {
			return 0, refuse("the symbolic link %q has no target that could be", h.Name)
		}
		return unix.S_IFLNK, pathError("symlink", p, unix.Symlinkat(h.Linkname, dir, name))
	case tar.TypeLink:
		return unix.S_IFREG, u.hardlink(h, p)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return u.device(h, p, dir, name)
	}
	return 0, refuse("%q is of type %q, which is no file", h.Name, h.Typeflag)
}

func (u *unpacker) regular(ctx context.Context, p string, r io.Reader) error {
	f, err := u.t.create(p)
	if err != nil {
		return err
	}
	if err := writeSparse(ctx, f, r); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		return errors.Join(fmt.Errorf("write /%s: %w", p, err), f.Close())
	}
	return f.Close()
}

// writeSparse writes what r gives, with holes for long runs of zeros: a few bytes of an archive can
// declare any number of them.
func writeSparse(ctx context.Context, f *os.File, r io.Reader) error {
	buf := make([]byte, 256<<10)
	zeros := make([]byte, len(buf))
	var size int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := fill(r, buf)
		if n == len(buf) && string(buf) == string(zeros) {
			size += int64(n)
			continue
		}
		if n > 0 {
			if _, err := f.WriteAt(buf[:n], size); err != nil {
				return err
			}
			size += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return f.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}

// fill reads until buf is full. Unlike io.ReadFull it leaves io.EOF apart from io.ErrUnexpectedEOF, which
// is a torn archive.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

func (u *unpacker) hardlink(h *tar.Header, p string) error {
	target, err := u.place(h.Linkname)
	if err != nil {
		return err
	}
	st, err := u.t.stat(target)
	if err != nil {
		return err
	}
	if st == nil || isDir(st) || target == p {
		return refuse("%q is a hard link to %q, which is no file before it", h.Name, h.Linkname)
	}
	to, err := u.t.at(target, unix.O_PATH)
	if err != nil {
		return err
	}
	defer to.Close()
	dir, name, err := u.t.parent(p)
	if err != nil {
		return err
	}
	return pathError("link", p, unix.Linkat(unix.AT_FDCWD, procFD(to), dir, name, unix.AT_SYMLINK_FOLLOW))
}

func (u *unpacker) device(h *tar.Header, p string, dir int, name string) (uint32, error) {
	typ := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
	if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
		return 0, refuse("the device %q has no number that could be", h.Name)
	}
	if typ == unix.S_IFCHR && h.Devmajor == 0 && h.Devminor == 0 {
		return 0, refuse("%q is the device 0:0, which overlayfs takes for a deleted file", h.Name)
	}
	return typ, pathError("mknod", p, unix.Mknodat(dir, name, typ|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))))
}

// attributes sets what the header says.
func (u *unpacker) attributes(h *tar.Header, p string, typ uint32) error {
	own := owner{uint32(h.Uid), uint32(h.Gid)}
	if u.own != nil {
		own = *u.own
	}
	dir, name, err := u.t.parent(p)
	if err != nil {
		return err
	}
	if err := u.t.chownAt(dir, name, p, typ|uint32(h.Mode)&0o7777, &own); err != nil {
		return err
	}
	if err := u.xattrs(h, p); err != nil {
		return err
	}
	if typ == unix.S_IFDIR {
		return u.later(p, h.ModTime)
	}
	return u.t.setTimeAt(dir, name, p, &h.ModTime)
}

func (u *unpacker) xattrs(h *tar.Header, p string) error {
	var to *os.File
	for k, v := range h.PAXRecords {
		key, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if !ok || !fileattr.Allowed(key, v) {
			continue
		}
		if to == nil {
			var err error
			if to, err = u.t.at(p, unix.O_PATH); err != nil {
				return err
			}
			defer to.Close()
		}
		// As Docker, whatever can't be set is left out.
		_ = setXattr(to, session.Xattr{Name: key, Value: v})
	}
	return nil
}
