package solver

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/inroot"
)

// clone makes a detached mount of p in the mount that root is the root of (which may be detached
// itself). p is resolved. The caller closes it.
func (s *Solver) clone(root *os.File, p string, readOnly bool) (*os.File, error) {
	f, err := s.cloneTree(root, p)
	if err != nil {
		return nil, fmt.Errorf("mount /%s: %w", p, err)
	}
	if readOnly {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return nil, errors.Join(fmt.Errorf("mount /%s read-only: %w", p, err), f.Close())
		}
	}
	return f, nil
}

func (s *Solver) cloneTree(root *os.File, p string) (*os.File, error) {
	at, err := inroot.Beneath(root, p, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	f, err := openTree(at)
	if errors.Is(err, unix.EINVAL) || s.attachFirst && err == nil {
		// Before Linux 6.15 only what is attached somewhere can be cloned.
		if err == nil {
			_ = f.Close()
		}
		return s.cloneAttached(root, p)
	}
	return f, err
}

func openTree(at *os.File) (*os.File, error) {
	fd, err := unix.OpenTree(int(at.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), at.Name()), nil
}

// cloneAttached attaches the detached mount that root is the root of to a path of the engine's for as
// long as it takes to clone a part of it.
func (s *Solver) cloneAttached(root *os.File, p string) (_ *os.File, err error) {
	dir := s.newDir() + attachedSuffix
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	if err := unix.MoveMount(int(root.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)) }()
	at, err := inroot.Beneath(root, p, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	return openTree(at)
}

const attachedSuffix = ".mnt"

// detachLeftOver unmounts what a killed engine had attached in dir.
func detachLeftOver(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), attachedSuffix) {
			if e := unix.Unmount(dir+"/"+e.Name(), unix.MNT_DETACH); e != nil && e != unix.EINVAL {
				err = errors.Join(err, e)
			}
		}
	}
	return err
}

// cloneDir makes a detached mount of a directory of the engine's.
func cloneDir(dir string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// tmpfs makes a detached tmpfs with the given options.
func tmpfs(options map[string]string) (_ *os.File, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("mount a tmpfs: %w", err)
		}
	}()
	ctx, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(ctx)
	for k, v := range options {
		if v == "" {
			err = unix.FsconfigSetFlag(ctx, k)
		} else {
			err = unix.FsconfigSetString(ctx, k, v)
		}
		if errors.Is(err, unix.EINVAL) && k == "noswap" { // Linux 6.4 and later
			err = nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "tmpfs"), nil
}

// secretFile makes a detached mount of one file with the secret in it, on a tmpfs of its own: nothing of
// it reaches a disk.
func (s *Solver) secretFile(data []byte, uid, gid, mode uint32) (_ *os.File, err error) {
	dir, err := tmpfs(map[string]string{"mode": "0700", "noswap": "", "size": strconv.Itoa(len(data) + 64<<10)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	fd, err := unix.Openat(int(dir.Fd()), "secret", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write a secret: %w", err)
	}
	f := os.NewFile(uintptr(fd), "secret")
	_, err = f.Write(data)
	err = errors.Join(err, f.Chown(int(uid), int(gid)), unix.Fchmod(fd, mode&0o7777), f.Close())
	if err != nil {
		return nil, fmt.Errorf("write a secret: %w", err)
	}
	return s.clone(dir, "secret", true)
}
