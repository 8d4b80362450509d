package layer

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// How lower layers are named to overlayfs, newest kernel first.
const (
	viaDescriptor = "descriptor" // Linux 6.13: fsconfig takes descriptors
	viaAppend     = "lowerdir+"  // Linux 6.8: one string a layer
	viaList       = "lowerdir"   // before: mount(2), all of them in one page
)

// maxLowers is how many lower layers overlayfs takes at most (OVL_MAX_STACK), maxListed how many fit
// into the page of mount(2) as "/proc/self/fd/NNNNN:".
const (
	maxLowers = 500
	maxListed = 180
)

// overlayOptions are said in every stack: the defaults are the host's, and what a layer brings along
// (a planted redirect) must not be followed. xino: overlayfs.rst, "Inode properties".
var overlayOptions = [][2]string{
	{"redirect_dir", "nofollow"},
	{"metacopy", "off"},
	{"index", "off"},
	{"nfs_export", "off"},
}

// overlay mounts overlayfs, in the best way that the kernel takes.
type overlay struct {
	scratch string // a directory in which a mount point can be made
	most    int    // lower layers of one mount, where the way of naming them sets no lower limit

	mu  sync.Mutex
	via string // guarded by mu; "" until the first mount has shown it
}

// overlayMount is one mount: directories as O_PATH descriptors, the uppermost lower first.
type overlayMount struct {
	lowers      []*os.File
	upper, work *os.File // both or none
	readOnly    bool
	volatile    bool
	xino        string // "on" or "off"
}

// ways are the ways in question, best first.
func (o *overlay) ways() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.via != "" {
		return []string{o.via}
	}
	return []string{viaDescriptor, viaAppend, viaList}
}

func (o *overlay) settle(via string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.via = via
}

// used returns the way in use, "" before the first mount.
func (o *overlay) used() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.via
}

// max is the number of lower layers that a mount can have.
func (o *overlay) max() int {
	if o.used() == viaList {
		return min(o.most, maxListed)
	}
	return o.most
}

// mount returns a detached mount.
func (o *overlay) mount(m overlayMount) (*os.File, error) {
	var err error
	ways := o.ways()
	for _, via := range ways {
		var f *os.File
		if via == viaList {
			f, err = m.list(o.scratch)
		} else {
			f, err = m.create(via)
		}
		if err == nil {
			if len(ways) > 1 {
				o.settle(via)
			}
			return f, nil
		}
		if !errors.Is(err, errOtherWay) {
			break
		}
	}
	return nil, fmt.Errorf("mount an overlay of %d layers: %w", len(m.lowers), err)
}

// errOtherWay is wrapped where the kernel did not understand how the layers were named.
var errOtherWay = errors.New("the kernel does not take layers this way")

// options are those that have a value.
func (m overlayMount) options() [][2]string {
	return append([][2]string{{"xino", m.xino}}, overlayOptions...)
}

// create mounts by fsopen(2), fsconfig(2), fsmount(2).
func (m overlayMount) create(via string) (*os.File, error) {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		if err == unix.ENOSYS {
			return nil, fmt.Errorf("%w: fsopen: %w", errOtherWay, err)
		}
		return nil, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fd)
	for i, lower := range m.lowers {
		if err := setDir(fd, via, "lowerdir+", lower); err != nil {
			// EOPNOTSUPP: Linux 6.1 passes overlayfs strings only
			if i == 0 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBADF) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP)) {
				return nil, fmt.Errorf("%w: lowerdir+: %w", errOtherWay, err)
			}
			return nil, contextError(fd, fmt.Sprintf("lower layer %s", lower.Name()), err)
		}
	}
	for _, o := range m.options() {
		if err := unix.FsconfigSetString(fd, o[0], o[1]); err != nil {
			return nil, contextError(fd, o[0]+"="+o[1], err)
		}
	}
	if m.upper != nil {
		if err := setDir(fd, via, "upperdir", m.upper); err != nil {
			return nil, contextError(fd, m.upper.Name(), err)
		}
		if err := setDir(fd, via, "workdir", m.work); err != nil {
			return nil, contextError(fd, m.work.Name(), err)
		}
	}
	if m.volatile {
		if err := unix.FsconfigSetFlag(fd, "volatile"); err != nil {
			return nil, contextError(fd, "volatile", err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		if via == viaAppend && err == unix.EINVAL { // Linux 6.1 collects any option and refuses here
			return nil, fmt.Errorf("%w: %w", errOtherWay, contextError(fd, "create", err))
		}
		return nil, contextError(fd, "create", err)
	}
	attrs := 0
	if m.readOnly {
		attrs = unix.MOUNT_ATTR_RDONLY
	}
	mnt, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return nil, contextError(fd, "fsmount", err)
	}
	return os.NewFile(uintptr(mnt), "overlay"), nil
}

// setDir gives the file system context a directory. Paths go through /proc/self/fd: a value of
// fsconfig has at most 256 bytes, paths have more.
func setDir(fd int, via, key string, dir *os.File) error {
	if via == viaDescriptor {
		return unix.FsconfigSetFd(fd, key, int(dir.Fd()))
	}
	return unix.FsconfigSetString(fd, key, fdPath(dir))
}

// contextError adds to err what the kernel left as messages in the file system context (fsopen(2)).
func contextError(fd int, doing string, err error) error {
	buf := make([]byte, 4096)
	for {
		n, readErr := unix.Read(fd, buf)
		if readErr != nil || n <= 0 {
			return fmt.Errorf("%s: %w", doing, err)
		}
		doing += ": " + strings.TrimSpace(strings.TrimPrefix(string(buf[:n]), "e "))
	}
}

// list mounts by mount(2) on a directory below scratch, and takes the mount from there.
func (m overlayMount) list(scratch string) (_ *os.File, err error) {
	if len(m.lowers) > maxListed {
		return nil, fmt.Errorf("this kernel takes %d layers", maxListed)
	}
	names := make([]string, len(m.lowers))
	for i, lower := range m.lowers {
		names[i] = fdPath(lower)
	}
	data := "lowerdir=" + strings.Join(names, ":")
	for _, o := range m.options() {
		data += "," + o[0] + "=" + o[1]
	}
	if m.upper != nil {
		data += ",upperdir=" + fdPath(m.upper) + ",workdir=" + fdPath(m.work)
	}
	if m.volatile {
		data += ",volatile"
	}
	var flags uintptr
	if m.readOnly {
		flags = unix.MS_RDONLY
	}
	target, err := os.MkdirTemp(scratch, "overlay-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unmountAt(target)) }()
	if err := unix.Mount("overlay", target, "overlay", flags, data); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("take the mount: %w", err)
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}
