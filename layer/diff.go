package layer

import (
	"archive/tar"
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

	"github.com/berth-engine/berth/internal/deeptree"
	"github.com/berth-engine/berth/internal/inroot"
	"github.com/berth-engine/berth/layer/erofs"
)

// diff looks at an upper beside what its stack shows without it. The upper may change meanwhile.
type diff struct {
	upper *os.File        // an overlay's upper, or any tree at all
	below *os.File        // a read-only view of the stack; nil: nothing is below
	made  map[string]bool // clean paths that the engine made to mount on, and all above them
	tick  time.Duration   // what two times of the kernel's coarse clock may differ by
	most  erofs.Limits    // of what scan holds in memory
	names int             // that scan has read
	bytes int64           // of names and extended attributes that scan has read
}

// node is a name in the upper.
type node struct {
	dir   *node  // nil: this is the root
	name  string // "" is the root
	attrs attributes
	born  time.Time // when the file was made; zero where the file system doesn't say
	kids  []*node   // of a directory, sorted by name

	exists   bool       // the stack has something of that path, too
	covers   bool       // without this node that would be seen: no directory above hides it
	merges   bool       // both are directories, and what is in them is seen together
	hides    bool       // both are directories, and what the stack has in it is not seen
	below    attributes // of the stack's directory, where this is one and something exists
	whiteout bool
	made     bool // the engine made something of this path

	left  bool  // set by prune: it is left out of the layer
	stub  bool  // set by prune: because the engine made it
	mtime int64 // the time that the layer says, seconds; prune puts back some
}

// path is clean; "" is the root. It is not kept: a container can have a million names of 4 KB.
func (n *node) path() string {
	var names []string
	for ; n.dir != nil; n = n.dir {
		names = append(names, n.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// errTooDeep: a container can nest directories deeper than any path can say.
func errTooDeep(p string) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the path %.60s… is longer than %d bytes", p, unix.PathMax-1))
}

// count refuses a tree of more than a layer can hold, before memory does.
func (d *diff) count(n *node) error {
	d.names++
	d.bytes += int64(len(n.name)) + n.attrs.bytes() + n.below.bytes()
	if d.names > d.most.Inodes {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("it has more than %d files and directories, which is more than a layer can hold", d.most.Inodes))
	}
	if d.bytes > d.most.Metadata {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("it has more than %d bytes of names and extended attributes, which is more than a layer can hold", d.most.Metadata))
	}
	return nil
}

// scan reads the tree of the upper, as far as a layer can hold it: paths that are too long, and more than
// the limits, are errdefs.ErrInvalidArgument. So what goes through the nodes by recursion goes down 2,048
// levels at most. It holds no more than a few descriptors at a time, however deep the tree is.
func (d *diff) scan(ctx context.Context) (*node, error) {
	root := &node{}
	f, err := openBeneath(d.upper, "")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if root.attrs, err = attributesOf(f); err != nil {
		return nil, err
	}
	if d.below != nil {
		if root.below, err = attributesOf(d.below); err != nil {
			return nil, err
		}
		root.exists, root.covers, root.merges = true, true, true
	}
	todo := []*node{root}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := d.readDir(ctx, dir); err != nil {
			return nil, err
		}
		for _, kid := range dir.kids {
			if isDir(kid.attrs.st.Mode) {
				todo = append(todo, kid)
			}
		}
	}
	return root, nil
}

// readDir fills in the directory's kids. A directory that has gone meanwhile has none.
func (d *diff) readDir(ctx context.Context, dir *node) error {
	at := dir.path()
	f, err := openBeneath(d.upper, at)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	list, err := inroot.Reopen(f, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer list.Close()
	var below *os.File
	if d.below != nil && dir.exists {
		if below, err = openBeneath(d.below, at); err != nil {
			return err
		}
		defer below.Close()
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		names, err := list.Readdirnames(1024)
		if err != nil && err != io.EOF {
			return err
		}
		for _, name := range names {
			if err := d.readKid(dir, at, f, below, name); err != nil {
				return err
			}
		}
		if len(names) == 0 || err == io.EOF {
			break
		}
	}
	slices.SortFunc(dir.kids, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return nil
}

// readKid adds one name to the kids of the directory whose path is at, if it is still there.
func (d *diff) readKid(dir *node, at string, f, below *os.File, name string) error {
	kid, err := d.read(dir, at, f, below, name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // gone meanwhile
	}
	if err != nil {
		return err
	}
	dir.kids = append(dir.kids, kid)
	return d.count(kid)
}

// read looks at one name of a directory that is open in the upper, and in the stack where it has it.
func (d *diff) read(dir *node, at string, f, below *os.File, name string) (*node, error) {
	n := &node{dir: dir, name: name}
	if len(at)+len("/")+len(name) >= unix.PathMax {
		return nil, errTooDeep(at)
	}
	file, err := openBeneath(f, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if n.attrs, err = attributesOf(file); err != nil {
		return nil, err
	}
	if len(d.made) > 0 && d.made[path.Join(at, name)] {
		n.made, n.born = true, birth(file)
	}
	n.whiteout = d.below != nil && isWhiteout(&n.attrs.st)
	n.mtime = n.attrs.st.Mtim.Sec
	if below == nil {
		return n, nil
	}
	under, err := openBeneath(below, name)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return n, nil
	}
	if err != nil {
		return nil, err
	}
	defer under.Close()
	n.exists = true
	n.covers = dir.merges
	if !isDir(n.attrs.st.Mode) {
		return n, nil
	}
	if n.below, err = attributesOf(under); err != nil {
		return nil, err
	}
	if both := dir.merges && isDir(n.below.st.Mode); both {
		n.hides = n.attrs.opaque
		n.merges = !n.hides
	}
	return n, nil
}

// birth is when a file was made.
func birth(f *os.File) time.Time {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return time.Time{}
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
}

// prune finds what of a tree is in no layer: what the engine made in order to mount, and directories
// that overlayfs copied up for it; what hides nothing; sockets. It puts back the times of directories
// that only the engine changed.
func (d *diff) prune(n *node) {
	var stubs time.Time // when the last of the engine's was made here
	own := false        // something else was made or deleted here
	kept := 0
	for _, kid := range n.kids {
		d.prune(kid)
		switch {
		case kid.stub:
			stubs = later(stubs, kid.born)
		case kid.left:
			own = own || isSocket(kid.attrs.st.Mode)
		default:
			kept++
			own = own || !kid.covers || kid.whiteout
		}
	}
	unborn := !stubs.IsZero()
	switch {
	case n.dir == nil:
		n.left = true // what a layer says of it counts for nothing (package erofs)
	case isSocket(n.attrs.st.Mode):
		n.left = true
	case n.whiteout:
		n.left = !n.covers
	case n.made && !n.covers && kept == 0 && d.untouched(n):
		n.left, n.stub = true, true
	case n.merges && kept == 0 && n.attrs.same(n.below) && (unborn || n.attrs.st.Mtim == n.below.st.Mtim):
		n.left = true
	case n.merges && unborn && !own && !modified(n).After(stubs.Add(d.tick)):
		n.mtime = n.below.st.Mtim.Sec
	}
}

// untouched says whether a mount point is as the engine makes it: an empty directory or file. (That
// nothing is kept in a directory, the caller knows.)
func (d *diff) untouched(n *node) bool {
	return isDir(n.attrs.st.Mode) || isRegular(n.attrs.st.Mode) && n.attrs.st.Size == 0
}

func modified(n *node) time.Time { return time.Unix(n.attrs.st.Mtim.Unix()) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// clockTick is the step of the clock that file systems take their times from.
func clockTick() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &t); err != nil {
		return 10 * time.Millisecond // HZ = 100, the slowest
	}
	return time.Duration(t.Nano())
}

// Whiteouts in the tars of layers (OCI image-spec, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	opaqueName     = whiteoutPrefix + whiteoutPrefix + ".opq"
)

// nameError refuses names that mean something else in a layer.
func nameError(n *node) error {
	if strings.HasPrefix(n.name, whiteoutPrefix) {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("/%s cannot be in a layer: names that begin with %q mark deletions there", n.path(), whiteoutPrefix))
	}
	return nil
}

// writeTar writes what is not left out.
func (d *diff) writeTar(ctx context.Context, root *node, w *tar.Writer) error {
	names := map[inode]string{} // of files that have more than one
	return walk(ctx, root, func(n *node) error {
		if n.left {
			return nil
		}
		if err := nameError(n); err != nil {
			return err
		}
		if n.whiteout {
			return w.WriteHeader(&tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Mode: 0o600,
				Name: path.Join(n.dir.path(), whiteoutPrefix+n.name), ModTime: time.Unix(0, 0)})
		}
		if err := d.writeNode(n, w, names); err != nil {
			return fmt.Errorf("write /%s to a layer: %w", n.path(), err)
		}
		if n.hides {
			return w.WriteHeader(&tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Mode: 0o600,
				Name: path.Join(n.path(), opaqueName), ModTime: time.Unix(0, 0)})
		}
		return nil
	})
}

// inode names a file within the upper.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{uint64(st.Dev), st.Ino} }

// writeNode writes one file or directory, if it is still there and what it was.
func (d *diff) writeNode(n *node, w *tar.Writer, names map[inode]string) error {
	at := n.path()
	f, err := openBeneath(d.upper, at)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	attrs, err := attributesOf(f)
	if err != nil {
		return err
	}
	if attrs.st.Mode&unix.S_IFMT != n.attrs.st.Mode&unix.S_IFMT {
		return nil
	}
	link := ""
	if !isDir(attrs.st.Mode) && attrs.st.Nlink > 1 {
		if link = names[inodeOf(&attrs.st)]; link == "" {
			names[inodeOf(&attrs.st)] = at
		}
	}
	if n.mtime != n.attrs.st.Mtim.Sec { // put back
		attrs.st.Mtim.Sec = n.mtime
	}
	return writeEntry(w, f, attrs, at, link)
}

// walk calls visit for n and all below it, directories before what is in them.
func walk(ctx context.Context, n *node, visit func(*node) error) error {
	if err := visit(n); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, kid := range n.kids {
		if err := walk(ctx, kid, visit); err != nil {
			return err
		}
	}
	return nil
}

// settle changes the upper into what writeTar says of it.
func (d *diff) settle(ctx context.Context, n *node) error {
	for _, kid := range n.kids {
		if err := ctx.Err(); err != nil {
			return err
		}
		if kid.left {
			if err := d.remove(kid); err != nil {
				return err
			}
			continue
		}
		if err := nameError(kid); err != nil {
			return err
		}
		if err := d.settle(ctx, kid); err != nil {
			return err
		}
	}
	if n.whiteout {
		return nil
	}
	f, err := openBeneath(d.upper, n.path())
	if err != nil {
		return err
	}
	defer f.Close()
	if n.dir == nil {
		return plainRoot(f)
	}
	for _, name := range n.attrs.others {
		if name == xattrOpaque && n.hides || !strings.Contains(name, ".overlay.") {
			continue
		}
		if err := unix.Removexattr(fdPath(f), name); err != nil && err != unix.ENODATA {
			return &os.PathError{Op: "remove the attribute " + name + " of", Path: f.Name(), Err: err}
		}
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: n.mtime}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(f), times, 0); err != nil {
		return &os.PathError{Op: "set the time of", Path: f.Name(), Err: err}
	}
	return nil
}

// plainRoot makes a directory like the root of every layer (package erofs): what a container did to the
// attributes of its root is in no layer.
func plainRoot(f *os.File) error {
	attrs, err := attributesOf(f)
	if err != nil {
		return err
	}
	for _, x := range attrs.xattrs {
		if err := unix.Removexattr(fdPath(f), x.name); err != nil && err != unix.ENODATA {
			return &os.PathError{Op: "remove the attribute " + x.name + " of", Path: f.Name(), Err: err}
		}
	}
	if err := os.Chown(fdPath(f), 0, 0); err != nil {
		return err
	}
	return os.Chmod(fdPath(f), rootMode)
}

// remove deletes the node and all that is in it from the upper.
func (d *diff) remove(n *node) error {
	dir, err := openBeneath(d.upper, n.dir.path())
	if err != nil {
		return err
	}
	defer dir.Close()
	return deeptree.RemoveAt(dir, n.name)
}

// changes lists what is not left out, as `docker diff` does.
func (d *diff) changes(ctx context.Context, root *node) ([]Change, error) {
	var list []Change
	err := walk(ctx, root, func(n *node) error {
		if n.dir == nil || n.left && !isSocket(n.attrs.st.Mode) {
			return nil
		}
		c := Change{Path: "/" + n.path(), Kind: Added}
		switch {
		case n.whiteout:
			c.Kind = Deleted
		case n.exists:
			c.Kind = Changed
		}
		list = append(list, c)
		if !n.hides {
			return nil
		}
		gone, err := d.hidden(n)
		list = append(list, gone...)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// hidden lists what of the stack's directory an opaque directory has nothing in place of.
func (d *diff) hidden(n *node) ([]Change, error) {
	at := n.path()
	f, err := openBeneath(d.below, at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dir, err := inroot.Reopen(f, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, kid := range n.kids {
		have[kid.name] = true
	}
	var gone []Change
	for _, name := range names {
		if !have[name] {
			gone = append(gone, Change{Path: "/" + path.Join(at, name), Kind: Deleted})
		}
	}
	return gone, nil
}
