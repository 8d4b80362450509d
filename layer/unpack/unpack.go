package unpack

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// Into makes the tree of the layer file in root, an empty directory that nobody else changes. Owners,
// modes, times, devices and attributes are as the layer has them, so it needs root's rights. What is
// there after an error is to be thrown away. Nothing is synced.
func Into(ctx context.Context, root, layer *os.File) error {
	m, err := openImage(layer)
	if err != nil {
		return err
	}
	u := &unpacker{image: m, layer: layer, root: root, links: map[uint64]string{}}
	u.todo = []dir{{number: m.root}}
	for len(u.todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := u.todo[len(u.todo)-1]
		u.todo = u.todo[:len(u.todo)-1]
		if err := u.fill(ctx, next); err != nil {
			return fmt.Errorf("unpack /%s: %w", next.path, err)
		}
	}
	return nil
}

type unpacker struct {
	*image
	layer *os.File
	root  *os.File
	todo  []dir             // made, not yet filled
	links map[uint64]string // inodes with several names: the first of them
}

// dir is a directory that is made, still without what is in it and without its attributes.
type dir struct {
	path   string // below the root, "" for the root itself
	number uint64
}

// fill makes what is in a directory and then, because that changed its times, gives it its attributes.
func (u *unpacker) fill(ctx context.Context, d dir) error {
	n, err := u.inode(d.number)
	if err != nil {
		return err
	}
	entries, err := u.entries(n)
	if err != nil {
		return err
	}
	at, err := u.open(d.path)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := u.make(at, path.Join(d.path, e.name), e); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return u.dress(at, ".", n)
}

// open opens a directory below the root. No part of the path is a link.
func (u *unpacker) open(p string) (int, error) {
	if p == "" {
		p = "."
	}
	return unix.Openat2(int(u.root.Fd()), p, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

// make makes one name in the directory at, whose path is p.
func (u *unpacker) make(at int, p string, e entry) error {
	n, err := u.inode(e.inode)
	if err != nil {
		return err
	}
	typ := n.mode & unix.S_IFMT
	if typ == unix.S_IFDIR {
		u.todo = append(u.todo, dir{p, n.number})
		return unix.Mkdirat(at, e.name, 0o700)
	}
	whiteout := typ == unix.S_IFCHR && n.union == 0
	if first, ok := u.links[n.number]; ok && !whiteout {
		return unix.Linkat(int(u.root.Fd()), first, at, e.name, 0)
	}
	if n.nlink > 1 {
		u.links[n.number] = p
	}
	switch typ {
	case unix.S_IFREG:
		err = u.file(at, e.name, n)
	case unix.S_IFLNK:
		err = u.symlink(at, e.name, n)
	default:
		err = unix.Mknodat(at, e.name, typ|0o600, int(device(n.union)))
	}
	if err != nil {
		return err
	}
	return u.dress(at, e.name, n)
}

// device is the number of a device: EROFS keeps it as the kernel's new_encode_dev makes it.
func device(v uint32) uint64 {
	return unix.Mkdev(v>>8&0xfff, v&0xff|v>>12&0xfff00)
}

func (u *unpacker) symlink(at int, name string, n inode) error {
	target, err := u.read(n)
	if err != nil {
		return err
	}
	return unix.Symlinkat(string(target), at, name)
}

// file makes a regular file with its content, holes left holes.
func (u *unpacker) file(at int, name string, n inode) error {
	list, err := u.extents(n)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(at, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	done := int64(0)
	for _, e := range list {
		if e.at >= 0 {
			if err := u.copy(f, done, e); err != nil {
				return err
			}
		}
		done += e.size
	}
	if err := f.Truncate(n.size); err != nil {
		return err
	}
	return f.Close()
}

// copy copies an extent to an offset of f, in the kernel where it can.
func (u *unpacker) copy(f *os.File, to int64, e extent) error {
	if _, err := f.Seek(to, io.SeekStart); err != nil {
		return err
	}
	if _, err := u.layer.Seek(e.at, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(f, u.layer, e.size)
	return err
}

// dress gives a name in the directory at its attributes. The order matters: a change of owner takes
// capabilities and setuid bits away.
func (u *unpacker) dress(at int, name string, n inode) error {
	if err := unix.Fchownat(at, name, n.uid, n.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	xattrs, err := u.xattributes(n)
	if err != nil {
		return err
	}
	for _, x := range xattrs {
		if err := unix.Lsetxattr("/proc/self/fd/"+strconv.Itoa(at)+"/"+name, x.name, x.value, 0); err != nil {
			return fmt.Errorf("set the attribute %s: %w", x.name, err)
		}
	}
	if n.mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(at, name, n.mode&0o7777, 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	times := []unix.Timespec{n.mtime, n.mtime}
	if err := unix.UtimesNanoAt(at, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the time: %w", err)
	}
	return nil
}
