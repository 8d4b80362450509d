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

	"github.com/berth-engine/berth/internal/deeptree"
	"github.com/berth-engine/berth/internal/fileattr"
	"github.com/berth-engine/berth/internal/inroot"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// UnpackOptions say how a tar is unpacked.
type UnpackOptions struct {
	// Owner, where set, owns everything, whatever the tar says.
	Owner *Owner
	// NoOverwriteDirNonDir refuses to replace a directory by something else, and the other way round.
	NoOverwriteDirNonDir bool
}

// Owner is a user and a group, by number.
type Owner struct{ UID, GID int }

// Unpack unpacks a tar into the directory dest below root. Entry names are relative to dest; one with
// ".." in it, and a hard link to what is not there, are errdefs.ErrInvalidArgument. What is
// there already is replaced, directories are merged; a mount point is not replaced: errdefs.ErrConflict.
// Parents that the tar doesn't have are made with mode 0755. Of extended attributes capabilities, ACLs and user.* are set; others are the host's.
// A tar of more than maxNames names, or of directories that take more than maxHeld to remember, is
// errdefs.ErrInvalidArgument too: what came before is there then.
func Unpack(ctx context.Context, root *os.File, dest string, r io.Reader, o UnpackOptions) error {
	to, err := inroot.Open(root, dest, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	u := newUnpacker(to, o)
	u.dest = path.Clean("/" + dest)
	return u.all(ctx, tar.NewReader(r))
}

func newUnpacker(root *os.File, o UnpackOptions) *unpacker {
	return &unpacker{root: root, options: o, maxNames: maxNames, maxHeld: maxHeld}
}

func (u *unpacker) all(ctx context.Context, tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return u.finish()
		}
		if err != nil {
			return fmt.Errorf("the tar is damaged: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := u.entry(h, tr); err != nil {
			return err
		}
	}
}

type unpacker struct {
	// root is where names are relative to. Links on the way are followed inside it: a link that leads
	// out of dest into the rest of the container's tree therefore ends at dest.
	root    *os.File
	dest    string // for messages
	options UnpackOptions
	dirs    []dirTime // are set at the end

	names, maxNames int   // made, those counted too that were replaced
	held, maxHeld   int64 // bytes of memory that dirs take
}

// A few kilobytes, compressed, can stand for millions of names. A volume may have more of them than a layer.
const (
	maxNames = 4 << 20
	maxHeld  = 256 << 20
)

// dirTime is the time of a directory.
type dirTime struct {
	name string // clean
	time time.Time
}

// count counts a name that is about to be made.
func (u *unpacker) count() error {
	if u.names++; u.names > u.maxNames {
		return fmt.Errorf("the tar has more than %d names: %w", u.maxNames, errdefs.ErrInvalidArgument)
	}
	return nil
}

// later remembers a directory's time until everything in it is there.
func (u *unpacker) later(name string, t time.Time) error {
	const each = 64 // a dirTime, and what a slice has to spare
	if u.held += int64(each + len(name)); u.held > u.maxHeld {
		return fmt.Errorf("the tar has too many directories: their names take more than %d bytes: %w", u.maxHeld, errdefs.ErrInvalidArgument)
	}
	u.dirs = append(u.dirs, dirTime{strings.Clone(name), t})
	return nil
}

// clean returns an entry's name without "./" and a trailing slash; "" is the destination itself.
func clean(name string) (string, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", fmt.Errorf("the tar has an entry %q, which points out of it: %w", name, errdefs.ErrInvalidArgument)
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("the tar would replace its destination by something that is no directory: %w", errdefs.ErrInvalidArgument)
		}
		return u.attributes(u.root, h, name)
	}
	if err := u.count(); err != nil {
		return err
	}
	parent, err := u.parent(path.Dir(name))
	if err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	defer parent.Close()
	base := path.Base(name)
	if err := u.clear(parent, base, h, name); err != nil {
		return err
	}
	if err := u.make(parent, base, h, content); err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	if h.Typeflag == tar.TypeLink {
		return nil
	}
	f, err := openChild(parent, base)
	if err != nil {
		return err
	}
	defer f.Close()
	return u.attributes(f, h, name)
}

// parent opens a directory; it, and what is missing above it, is made.
func (u *unpacker) parent(dir string) (*os.File, error) {
	f, err := inroot.Open(u.root, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		if err := u.mkdir(dir); err != nil {
			return nil, err
		}
		f, err = inroot.Open(u.root, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%s is there and is no directory: %w", dir, errdefs.ErrInvalidArgument)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is, or is below, a symbolic link that leads to nothing: %w", dir, errdefs.ErrInvalidArgument)
	}
	return f, err
}

func (u *unpacker) mkdir(dir string) error {
	if err := u.count(); err != nil {
		return err
	}
	above, err := u.parent(path.Dir(dir))
	if err != nil {
		return err
	}
	defer above.Close()
	if err := unix.Mkdirat(int(above.Fd()), path.Base(dir), 0o755); err != nil && err != unix.EEXIST {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}

// cause is what the kernel said.
func cause(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

func openChild(parent *os.File, base string) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: base, Err: err}
	}
	return os.NewFile(uintptr(fd), base), nil
}

// clear removes what is in the way of an entry. A directory stays for a directory.
func (u *unpacker) clear(parent *os.File, base string, h *tar.Header, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(parent.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	isDir, wantDir := st.Mode&unix.S_IFMT == unix.S_IFDIR, h.Typeflag == tar.TypeDir
	if isDir && wantDir {
		return nil
	}
	if isDir != wantDir && u.options.NoOverwriteDirNonDir {
		what := map[bool]string{true: "a directory", false: "a non-directory"}
		return fmt.Errorf("cannot overwrite %s with %s: %s: %w", what[isDir], what[wantDir], name, errdefs.ErrInvalidArgument)
	}
	if mounted(parent, base) {
		return fmt.Errorf("%s cannot be replaced, it is a mount point: %w: %w", path.Join(u.dest, name), unix.EBUSY, errdefs.ErrConflict)
	}
	if !isDir {
		err = unix.Unlinkat(int(parent.Fd()), base, 0)
	} else {
		err = deeptree.RemoveAt(parent, base)
	}
	if err != nil {
		return &fs.PathError{Op: "replace", Path: name, Err: err}
	}
	return nil
}

// mounted tells whether something is mounted on an entry. The kernel would say EBUSY of it only in the mount namespace
// where it is: in another one it takes the mount away, and what is written then is under where it was.
func mounted(parent *os.File, base string) bool {
	var st unix.Statx_t
	err := unix.Statx(int(parent.Fd()), base, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

func (u *unpacker) make(parent *os.File, base string, h *tar.Header, content io.Reader) error {
	at := int(parent.Fd())
	device := func(kind uint32) error {
		return unix.Mknodat(at, base, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := unix.Mkdirat(at, base, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	case tar.TypeReg, tar.TypeGNUSparse:
		return writeFile(at, base, content)
	case tar.TypeSymlink:
		return unix.Symlinkat(h.Linkname, at, base)
	case tar.TypeLink:
		return u.link(at, base, h.Linkname)
	case tar.TypeChar:
		return device(unix.S_IFCHR)
	case tar.TypeBlock:
		return device(unix.S_IFBLK)
	case tar.TypeFifo:
		return unix.Mknodat(at, base, unix.S_IFIFO|0o600, 0)
	}
	return fmt.Errorf("an entry of type %q is not known: %w", h.Typeflag, errdefs.ErrInvalidArgument)
}

func writeFile(at int, base string, content io.Reader) error {
	fd, err := unix.Openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// link makes a hard link. Its target's last component is not followed, as Docker's untar does not.
func (u *unpacker) link(at int, base, target string) error {
	name, err := clean(target)
	if err != nil {
		return err
	}
	dir, err := inroot.Open(u.root, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		defer dir.Close()
		err = unix.Linkat(int(dir.Fd()), path.Base(name), at, base, 0)
	}
	if err != nil {
		// Not the error itself: it is the tar that is wrong, not the destination that is missing.
		return fmt.Errorf("hard link to %s: %s: %w", target, cause(err).Error(), errdefs.ErrInvalidArgument)
	}
	return nil
}

// attributes sets owner, mode, xattrs and times, through /proc/self/fd where an O_PATH descriptor does
// not take the call itself.
func (u *unpacker) attributes(f *os.File, h *tar.Header, name string) error {
	fail := func(what string, err error) error {
		return fmt.Errorf("unpack %s: %s: %w", h.Name, what, err)
	}
	uid, gid := h.Uid, h.Gid
	if o := u.options.Owner; o != nil {
		uid, gid = o.UID, o.GID
	}
	if err := unix.Fchownat(int(f.Fd()), "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return fail("chown", err)
	}
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	at := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if err := unix.Chmod(at, uint32(h.Mode)&0o7777); err != nil {
		return fail("chmod", err)
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || !fileattr.Allowed(name, value) && !fileattr.IsACL(name) {
			continue
		}
		if err := unix.Setxattr(at, name, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fail("setxattr "+name, err)
		}
	}
	if h.Typeflag == tar.TypeDir {
		return u.later(name, h.ModTime)
	}
	return setTime(at, h.ModTime)
}

func setTime(at string, t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{ts, ts}, 0)
}

// finish sets the times of directories, which unpacking into them has changed.
func (u *unpacker) finish() error {
	for _, d := range slices.Backward(u.dirs) {
		f, err := inroot.Open(u.root, "/"+d.name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			continue // replaced by a later entry
		}
		if err != nil {
			return err
		}
		err = setTime(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), d.time)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
