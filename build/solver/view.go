package solver

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/tree"
	"github.com/berth-engine/berth/internal/inroot"
)

// view is a tree of files to read from: a local source in memory, or a mounted stack. Paths given to
// its methods are clean, relative ("" is the root), and none of their directories is a link: resolve
// gives such.
type view interface {
	lstat(p string) (*node, error)
	readdir(p string) ([]*node, error) // sorted by name
	// load makes contents (and what comes with them) ready for sum, open and xattrs.
	load(ctx context.Context, nodes []*node) error
	sum(ctx context.Context, n *node) (tree.Sum, error)
	open(n *node) (content, error)
	xattrs(n *node) ([]session.Xattr, error)
}

// node is one name of a view.
type node struct {
	path     string // as in view
	mode     uint32 // st_mode
	uid, gid uint32
	size     int64
	mtime    unix.Timespec
	rdev     uint64
	link     string
	file     any // identity of a file with several names; nil if it has one
	index    int // of a treeView
}

func (n *node) name() string    { return path.Base(n.path) }
func (n *node) isDir() bool     { return n.mode&unix.S_IFMT == unix.S_IFDIR }
func (n *node) isRegular() bool { return n.mode&unix.S_IFMT == unix.S_IFREG }
func (n *node) isLink() bool    { return n.mode&unix.S_IFMT == unix.S_IFLNK }

// content is an open file. The caller closes it.
type content interface {
	io.ReadSeekCloser
	// file is where the bytes lie, for copy_file_range(2); nil if in memory.
	file() (f *os.File, off int64)
}

// treeView is a view of a tree.
type treeView struct{ t *tree.Tree }

var rootNode = node{mode: unix.S_IFDIR | 0o755, index: tree.Root}

func (v treeView) node(i int) *node {
	e := &v.t.Entries[i]
	n := &node{path: e.Path, mode: e.Mode, size: e.Size, mtime: unix.NsecToTimespec(e.Mtime), rdev: e.Rdev, link: e.Link, index: i}
	if e.Hardlink != "" {
		n.file = e.Hardlink
	} else if n.isRegular() {
		n.file = e.Path // whether others link to it is not known, and does not matter
	}
	return n
}

func (v treeView) lstat(p string) (*node, error) {
	if p == "" {
		root := rootNode
		return &root, nil
	}
	i, ok := v.t.Find(p)
	if !ok {
		return nil, &fs.PathError{Op: "stat", Path: "/" + p, Err: fs.ErrNotExist}
	}
	return v.node(i), nil
}

func (v treeView) readdir(p string) ([]*node, error) {
	i := 0
	if p != "" {
		at, ok := v.t.Find(p)
		if !ok {
			return nil, &fs.PathError{Op: "readdir", Path: "/" + p, Err: fs.ErrNotExist}
		}
		i = at + 1
		p += "/"
	}
	var out []*node
	for i < len(v.t.Entries) && strings.HasPrefix(v.t.Entries[i].Path, p) {
		n := v.node(i)
		out = append(out, n)
		i++
		if n.isDir() { // skip what is in it
			i += v.below(i, n.path+"/")
		}
	}
	return out, nil
}

// below counts the entries from i on that begin with prefix; they are all in a row.
func (v treeView) below(i int, prefix string) int {
	n, _ := slices.BinarySearchFunc(v.t.Entries[i:], prefix, func(e tree.Entry, prefix string) int {
		if strings.HasPrefix(e.Path, prefix) {
			return -1
		}
		return 1
	})
	return n
}

func (v treeView) load(ctx context.Context, nodes []*node) error {
	var want []int
	for _, n := range nodes {
		if !n.isRegular() {
			continue
		}
		i := n.index
		if link := v.t.Entries[i].Hardlink; link != "" {
			i, _ = v.t.Find(link)
		}
		want = append(want, i)
	}
	slices.Sort(want)
	if err := v.t.Load(ctx, slices.Compact(want)); err != nil {
		return err
	}
	for _, n := range nodes { // what was read may be newer than what was listed
		if n.isRegular() {
			fresh := v.node(n.index)
			n.mode, n.size, n.mtime = fresh.mode, fresh.size, fresh.mtime
		}
	}
	return nil
}

func (v treeView) sum(_ context.Context, n *node) (tree.Sum, error) {
	e := &v.t.Entries[n.index]
	if e.Hardlink != "" {
		i, _ := v.t.Find(e.Hardlink)
		e = &v.t.Entries[i]
	}
	if e.Sum == (tree.Sum{}) {
		c, err := v.open(n) // of a content in memory
		if err != nil {
			return tree.Sum{}, err
		}
		defer c.Close()
		return hashOf(c)
	}
	return e.Sum, nil
}

func hashOf(r io.Reader) (sum tree.Sum, err error) {
	h := sha256.New()
	_, err = io.CopyBuffer(h, r, make([]byte, 256<<10))
	h.Sum(sum[:0])
	return sum, err
}

type treeContent struct {
	*io.SectionReader
	c tree.Content
}

func (c treeContent) Close() error                { return nil }
func (c treeContent) file() (f *os.File, o int64) { return c.c.File() }

func (v treeView) open(n *node) (content, error) {
	c, err := v.t.Content(n.index)
	if err != nil {
		return nil, err
	}
	return treeContent{c.Reader(), c}, nil
}

func (v treeView) xattrs(n *node) ([]session.Xattr, error) {
	if n.index == tree.Root {
		return nil, nil
	}
	e := &v.t.Entries[n.index]
	if e.Hardlink != "" {
		i, _ := v.t.Find(e.Hardlink)
		e = &v.t.Entries[i]
	}
	return e.Xattrs, nil
}

// dirView is a view of a mounted tree that nobody else writes to.
type dirView struct{ root *os.File }

// at opens p, through no link.
func (v dirView) at(p string, flags int) (*os.File, error) { return inroot.Beneath(v.root, p, flags) }

func (v dirView) lstat(p string) (*node, error) {
	f, err := v.at(p, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: "/" + p, Err: err}
	}
	return newNode(int(f.Fd()), "", p, &st)
}

// newNode makes a node of what stat said of name in dir (of dir itself if name is "").
func newNode(dir int, name, p string, st *unix.Stat_t) (*node, error) {
	n := &node{path: p, mode: st.Mode, uid: st.Uid, gid: st.Gid, mtime: st.Mtim, rdev: st.Rdev}
	if n.isRegular() {
		n.size = st.Size
	}
	if n.isLink() {
		b := make([]byte, unix.PathMax)
		size, err := unix.Readlinkat(dir, name, b)
		if err != nil {
			return nil, &fs.PathError{Op: "readlink", Path: "/" + p, Err: err}
		}
		n.link = string(b[:size])
	}
	if st.Nlink > 1 && !n.isDir() {
		n.file = [2]uint64{st.Dev, st.Ino}
	}
	return n, nil
}

func (v dirView) readdir(p string) ([]*node, error) {
	f, err := v.at(p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	out := make([]*node, 0, len(names))
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, &fs.PathError{Op: "stat", Path: "/" + path.Join(p, name), Err: err}
		}
		n, err := newNode(int(f.Fd()), name, path.Join(p, name), &st)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

func (v dirView) load(context.Context, []*node) error { return nil }

func (v dirView) sum(ctx context.Context, n *node) (tree.Sum, error) {
	if err := ctx.Err(); err != nil {
		return tree.Sum{}, err
	}
	c, err := v.open(n)
	if err != nil {
		return tree.Sum{}, err
	}
	defer c.Close()
	return hashOf(c)
}

type dirContent struct{ *os.File }

func (c dirContent) file() (*os.File, int64) { return c.File, 0 }

func (v dirView) open(n *node) (content, error) {
	if !n.isRegular() {
		return nil, &fs.PathError{Op: "open", Path: "/" + n.path, Err: errors.New("not a regular file")}
	}
	f, err := v.at(n.path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return dirContent{f}, nil
}

func (v dirView) xattrs(n *node) ([]session.Xattr, error) {
	f, err := v.at(n.path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readXattrs(f)
}

// maxLinks is how many links are followed in one path, as the kernel does (path_resolution(7)).
const maxLinks = 40

// resolve follows links of p inside v, as under chroot: "..", absolute links and links that would leave
// it end inside. The last component's link is followed if follow. What is not there is an error only
// as far as it has to be followed: of a missing last component the path is given.
func resolve(v view, p string, follow bool) (string, error) {
	at := ""
	rest := strings.Split(p, "/")
	for links := 0; len(rest) > 0; {
		c := rest[0]
		rest = rest[1:]
		switch c {
		case "", ".":
			continue
		case "..":
			if at = path.Dir(at); at == "." {
				at = ""
			}
			continue
		}
		next := path.Join(at, c)
		n, err := v.lstat(next)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return path.Clean("/" + next + "/" + strings.Join(rest, "/"))[1:], err
			}
			return "", err
		}
		if n.isLink() && (follow || len(withoutDots(rest)) > 0) {
			if links++; links > maxLinks {
				return "", &fs.PathError{Op: "open", Path: "/" + next, Err: unix.ELOOP}
			}
			if strings.HasPrefix(n.link, "/") {
				at = ""
			}
			rest = append(strings.Split(n.link, "/"), rest...)
			continue
		}
		if !n.isDir() && len(withoutDots(rest)) > 0 {
			return "", &fs.PathError{Op: "open", Path: "/" + path.Join(next, rest[0]), Err: unix.ENOTDIR}
		}
		at = next
	}
	return at, nil
}

// withoutDots drops empty components and "."; ".." stays, and is resolved lexically by who joins.
func withoutDots(rest []string) []string {
	var out []string
	for _, c := range rest {
		if c != "" && c != "." {
			out = append(out, c)
		}
	}
	return out
}
