package solver

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/deeptree"
)

// owner is who is to own what an operation makes.
type owner struct{ uid, gid uint32 }

// target is a mounted tree that an operation writes to. Nobody else writes to it, but every path came
// from a Dockerfile or an archive, and the tree's own links from an image: so paths are resolved inside
// (resolve), and then opened through no link (inroot.Beneath).
type target struct {
	dirView
	dir  string   // of which fd is the directory
	fd   *os.File // O_PATH; nil before the first use
	time time.Time
}

// newTarget returns the target with the root directory root. now is the time of what has none. The
// caller closes the target; root stays his.
func newTarget(root *os.File, now time.Time) *target {
	return &target{dirView: dirView{root}, time: now.Truncate(time.Second)}
}

func (t *target) close() error {
	if t.fd == nil {
		return nil
	}
	err := t.fd.Close()
	t.fd = nil
	return err
}

// parent opens the directory of p, which is resolved, and gives the name in it. The descriptor is the
// target's. p is not the root.
func (t *target) parent(p string) (int, string, error) {
	dir, name := path.Split(p)
	dir = path.Clean("/" + dir)[1:]
	if t.fd == nil || t.dir != dir {
		f, err := t.at(dir, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return -1, "", err
		}
		_ = t.close() // an O_PATH descriptor
		t.dir, t.fd = dir, f
	}
	return int(t.fd.Fd()), name, nil
}

func pathError(op, p string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: "/" + p, Err: err}
}

// stat is lstat, with nil for what is not there.
func (t *target) stat(p string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	if p == "" {
		return &st, pathError("stat", p, unix.Fstat(int(t.root.Fd()), &st))
	}
	dir, name, err := t.parent(p)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return nil, nil
		}
		return nil, err
	}
	err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return &st, pathError("stat", p, err)
}

func isDir(st *unix.Stat_t) bool { return st != nil && st.Mode&unix.S_IFMT == unix.S_IFDIR }

// resolveNew resolves p, all links followed, of which the end may be missing.
func (t *target) resolveNew(p string) (string, error) {
	at, err := resolve(t.dirView, p, true)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return at, err
}

// mkdirAll makes p, which is resolved, and its missing parents, and returns those that it made, the
// topmost first.
func (t *target) mkdirAll(p string, mode uint32, own *owner, when *time.Time) ([]string, error) {
	st, err := t.stat(p)
	if err != nil {
		return nil, err
	}
	if st != nil {
		if !isDir(st) {
			return nil, pathError("mkdir", p, unix.ENOTDIR)
		}
		return nil, nil
	}
	up := path.Dir(p)
	if up == "." {
		up = ""
	}
	made, err := t.mkdirAll(up, mode, own, when)
	if err != nil {
		return nil, err
	}
	return append(made, p), t.mkdir(p, mode, own, when)
}

// mkdir makes the directory p, which is resolved and is not there.
func (t *target) mkdir(p string, mode uint32, own *owner, when *time.Time) error {
	dir, name, err := t.parent(p)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(dir, name, mode&0o777); err != nil {
		return pathError("mkdir", p, err)
	}
	if own == nil {
		own = &owner{}
	}
	return t.setAttributes(p, mode, own, when)
}

// setAttributes sets owner, mode and time, in this order: chown takes setuid away. Of a link it sets owner
// and time. The time is the target's where when is nil.
func (t *target) setAttributes(p string, mode uint32, own *owner, when *time.Time) error {
	dir, name, err := t.parent(p)
	if err != nil {
		return err
	}
	return t.setAt(dir, name, p, mode, own, when)
}

func (t *target) setAt(dir int, name, p string, mode uint32, own *owner, when *time.Time) error {
	if err := t.chownAt(dir, name, p, mode, own); err != nil {
		return err
	}
	return t.setTimeAt(dir, name, p, when)
}

func (t *target) chownAt(dir int, name, p string, mode uint32, own *owner) error {
	if err := unix.Fchownat(dir, name, int(own.uid), int(own.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("chown", p, err)
	}
	if mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	// The name was made here a moment ago, or is no link: fchmodat(2) follows links.
	return pathError("chmod", p, unix.Fchmodat(dir, name, mode&0o7777, 0))
}

func (t *target) setTimeAt(dir int, name, p string, when *time.Time) error {
	if when == nil {
		when = &t.time
	}
	ts := unix.NsecToTimespec(when.UnixNano())
	return pathError("set the times of", p, unix.UtimesNanoAt(dir, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}

// create makes the regular file p, which is resolved and is not there, and opens it for writing.
func (t *target) create(p string) (*os.File, error) {
	dir, name, err := t.parent(p)
	if err != nil {
		return nil, err
	}
	for {
		fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, pathError("create", p, err)
		}
		return os.NewFile(uintptr(fd), "/"+p), nil
	}
}

// remove removes p, which is resolved, and everything below it. What is not there is no error.
func (t *target) remove(p string) error {
	_, name, err := t.parent(p)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return nil
		}
		return err
	}
	if name == "" { // the root
		return pathError("remove", p, unix.EBUSY)
	}
	return deeptree.RemoveAt(t.fd, name)
}
