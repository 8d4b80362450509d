package solver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/tonistiigi/dchapes-mode"
	"golang.org/x/sys/unix"
)

// copier executes one copy action as BuildKit's file backend and fsutil do: from a view to a target.
type copier struct {
	ctx   context.Context
	v     view
	t     *target
	a     *pb.FileActionCopy
	own   *owner     // nil: as in the source
	when  *time.Time // nil: as in the source
	perm  *uint32    // mode for everything; nil: as in the source
	modes *mode.Set  // the same, symbolic
	links map[any]string
}

// copyFiles executes the action. Paths in its errors are as the Dockerfile's author sees them.
func copyFiles(ctx context.Context, v view, t *target, a *pb.FileActionCopy, own *owner) error {
	c := &copier{ctx: ctx, v: v, t: t, a: a, own: own, when: timestamp(a.Timestamp), links: map[any]string{}}
	switch {
	case a.ModeStr != "":
		set, err := mode.ParseWithUmask(a.ModeStr, 0)
		if err != nil {
			return fmt.Errorf("chmod %q: %w: %w", a.ModeStr, err, errdefs.ErrInvalidArgument)
		}
		c.modes = &set
	case a.Mode != -1:
		perm := uint32(a.Mode) & 0o7777
		c.perm = &perm
	}
	if !a.CreateDestPath {
		if err := c.parentExists(); err != nil {
			return err
		}
	}
	sources, err := pick(ctx, v, ofCopy(a))
	if err != nil {
		return err
	}
	if len(sources) == 0 && !a.AllowEmptyWildcard {
		return fmt.Errorf("nothing matches %q: %w", a.Src, errdefs.ErrNotFound)
	}
	var nodes []*node
	for _, src := range sources {
		for _, f := range src.files {
			nodes = append(nodes, f.node)
		}
	}
	if err := v.load(ctx, nodes); err != nil {
		return err
	}
	for _, src := range sources {
		if err := c.source(src); err != nil {
			return err
		}
	}
	return nil
}

func timestamp(ns int64) *time.Time {
	if ns == -1 {
		return nil
	}
	t := time.Unix(0, ns)
	return &t
}

func (c *copier) parentExists() error {
	dest, err := c.t.resolveNew(c.a.Dest)
	if err != nil {
		return err
	}
	dir := path.Dir("/" + dest)[1:]
	st, err := c.t.stat(dir)
	if err == nil && !isDir(st) {
		err = pathError("copy to", dir, fs.ErrNotExist)
	}
	return err
}

// source copies one thing that the action names.
func (c *copier) source(src source) error {
	top := src.files[0] // the source itself is always picked
	if c.a.AttemptUnpackDockerCompatibility && top.isRegular() {
		done, err := unpack(c.ctx, c.v, top.node, c.t, c.a.Dest, c.own)
		if done || err != nil {
			return err
		}
	}
	made, err := c.ensureParent()
	if err != nil {
		return err
	}
	dest, more, err := c.destination(src.named, top.node)
	if err != nil {
		return err
	}
	made = append(made, more...)
	for _, f := range src.files {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.file(f, path.Join(dest, f.rel)); err != nil {
			return err
		}
	}
	// Directories made on the way have lost the time that they were given.
	for _, dir := range made {
		d, name, err := c.t.parent(dir)
		if err != nil {
			return err
		}
		if err := c.t.setTimeAt(d, name, dir, c.when); err != nil {
			return err
		}
	}
	return nil
}

// dirMode is that of directories which are made for a destination.
func (c *copier) dirMode() uint32 {
	if c.perm != nil {
		return *c.perm
	}
	return 0o755
}

// ensureParent makes the directory that the destination's name says: itself if it ends in a slash.
func (c *copier) ensureParent() ([]string, error) {
	dest := c.a.Dest
	if !strings.HasSuffix(dest, "/") && path.Base(dest) != "." {
		dest = path.Dir(path.Clean("/" + dest))
	}
	at, err := c.t.resolveNew(dest)
	if err != nil {
		return nil, err
	}
	return c.t.mkdirAll(at, c.dirMode(), c.own, c.when)
}

// destination is where the source goes: into a directory that is there, under its own name, unless it
// is a directory whose content is meant.
func (c *copier) destination(named string, n *node) (string, []string, error) {
	dest, err := c.t.resolveNew(c.a.Dest)
	if err != nil {
		return "", nil, err
	}
	st, err := c.t.stat(dest)
	if err != nil {
		return "", nil, err
	}
	if !c.a.DirCopyContents && n.isDir() && st != nil || !n.isDir() && isDir(st) {
		dest = path.Join(dest, path.Base("/"+named))
	}
	dir := path.Dir("/" + dest)[1:]
	if c.a.DirCopyContents && n.isDir() && st == nil {
		dir = dest
	}
	made, err := c.t.mkdirAll(dir, c.dirMode(), c.own, c.when)
	return dest, made, err
}

// file copies one name to p.
func (c *copier) file(f picked, p string) error {
	st, err := c.t.stat(p)
	if err != nil {
		return err
	}
	if f.isDir() {
		return c.directory(f, p, st)
	}
	if st != nil {
		if isDir(st) && !c.a.AlwaysReplaceExistingDestPaths {
			return fmt.Errorf("/%s is a directory and cannot be replaced by the file %s: %w", p, f.name(), errdefs.ErrInvalidArgument)
		}
		if err := c.t.remove(p); err != nil {
			return err
		}
	}
	switch {
	case f.isRegular():
		if done, err := c.hardlink(f, p); done || err != nil {
			return err
		}
		err = c.regular(f, p)
	case f.isLink():
		err = c.make(p, func(dir int, name string) error { return unix.Symlinkat(f.link, dir, name) })
	default:
		m := f.mode
		if m&unix.S_IFMT == unix.S_IFSOCK { // as a stub, like BuildKit
			m = m&^unix.S_IFMT | unix.S_IFREG
		}
		err = c.make(p, func(dir int, name string) error { return unix.Mknodat(dir, name, m, int(f.rdev)) })
	}
	if err != nil {
		return err
	}
	return c.attributes(f, p)
}

func (c *copier) make(p string, f func(dir int, name string) error) error {
	dir, name, err := c.t.parent(p)
	if err != nil {
		return err
	}
	return pathError("make", p, f(dir, name))
}

// hardlink makes p a link to what the same file was copied to before.
func (c *copier) hardlink(f picked, p string) (bool, error) {
	if f.file == nil {
		return false, nil
	}
	first, ok := c.links[f.file]
	if !ok {
		c.links[f.file] = p
		return false, nil
	}
	to, err := c.t.at(first, unix.O_PATH)
	if err != nil {
		return false, err
	}
	defer to.Close()
	return true, c.make(p, func(dir int, name string) error {
		return unix.Linkat(unix.AT_FDCWD, procFD(to), dir, name, unix.AT_SYMLINK_FOLLOW)
	})
}

func (c *copier) regular(f picked, p string) error {
	from, err := c.v.open(f.node)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := c.t.create(p)
	if err != nil {
		return err
	}
	if err := copyContent(c.ctx, to, from, f.size); err != nil {
		return errors.Join(fmt.Errorf("write /%s: %w", p, err), to.Close())
	}
	return to.Close()
}

// copyContent copies by copy_file_range(2), which shares blocks where the file system can, or else by
// hand.
func copyContent(ctx context.Context, to *os.File, from content, size int64) error {
	src, off := from.file()
	var done int64
	for src != nil && done < size {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := off + done
		n, err := unix.CopyFileRange(int(src.Fd()), &at, int(to.Fd()), nil, int(min(size-done, 128<<20)), 0)
		switch {
		case err == unix.EINTR:
			continue
		case n == 0 || err != nil: // another file system, or one that can't
			src = nil
		default:
			done += int64(n)
		}
	}
	if done == size {
		return nil
	}
	if _, err := from.Seek(done, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, from, make([]byte, 256<<10))
	return err
}

// directory makes or takes the directory p. The attributes of one that is there are those of the source,
// unless it is the destination itself.
func (c *copier) directory(f picked, p string, st *unix.Stat_t) error {
	if st != nil && !isDir(st) {
		if !c.a.AlwaysReplaceExistingDestPaths {
			return fmt.Errorf("/%s is there and no directory, so a directory cannot be copied to it: %w", p, errdefs.ErrInvalidArgument)
		}
		if err := c.t.remove(p); err != nil {
			return err
		}
		st = nil
	}
	switch {
	case st == nil:
		if err := c.t.mkdir(p, 0o700, nil, nil); err != nil {
			return err
		}
	case f.rel == "":
		return c.keepTime(f, p)
	case f.late:
		return c.make(p, func(dir int, name string) error { return unix.Fchmodat(dir, name, f.mode&0o7777, 0) })
	}
	return c.attributes(f, p)
}

// keepTime gives the destination itself, which was there before, the source's time, as BuildKit does:
// that of now would differ each time.
func (c *copier) keepTime(f picked, p string) error {
	if p == "" {
		return nil
	}
	when := c.when
	if when == nil {
		t := time.Unix(f.mtime.Unix())
		when = &t
	}
	return c.make(p, func(dir int, name string) error { return c.t.setTimeAt(dir, name, p, when) })
}

// attributes gives p what the source has and the action says.
func (c *copier) attributes(f picked, p string) error {
	if p == "" { // the root of the target keeps its own
		return nil
	}
	own := owner{f.uid, f.gid}
	if c.own != nil {
		own = *c.own
	}
	m := f.mode
	switch {
	case c.modes != nil:
		m = m&unix.S_IFMT | fromFileMode(c.modes.Apply(toFileMode(m)))
	case c.perm != nil:
		m = m&unix.S_IFMT | *c.perm
	}
	when := c.when
	if when == nil {
		t := time.Unix(f.mtime.Unix())
		when = &t
	}
	dir, name, err := c.t.parent(p)
	if err != nil {
		return err
	}
	if err := c.t.chownAt(dir, name, p, m, &own); err != nil {
		return err
	}
	if err := c.xattrs(f, p); err != nil { // after chown, which takes a capability away
		return err
	}
	return c.t.setTimeAt(dir, name, p, when)
}

func (c *copier) xattrs(f picked, p string) error {
	attrs, err := c.v.xattrs(f.node)
	if err != nil || len(attrs) == 0 {
		return err
	}
	to, err := c.t.at(p, unix.O_PATH)
	if err != nil {
		return err
	}
	defer to.Close()
	for _, x := range attrs {
		if err := setXattr(to, x); err != nil {
			return err
		}
	}
	return nil
}

func toFileMode(m uint32) fs.FileMode {
	out := fs.FileMode(m & 0o777)
	for bit, mode := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if m&bit != 0 {
			out |= mode
		}
	}
	if m&unix.S_IFMT == unix.S_IFDIR {
		out |= fs.ModeDir
	}
	return out
}

func fromFileMode(m fs.FileMode) uint32 {
	out := uint32(m.Perm())
	for bit, mode := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if m&mode != 0 {
			out |= bit
		}
	}
	return out
}
