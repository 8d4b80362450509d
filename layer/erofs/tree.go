package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
)

// Types of files as in st_mode (POSIX sys/stat.h).
const (
	modeType    = 0o170000
	modeSymlink = 0o120000
	modeFile    = 0o100000
	modeBlock   = 0o060000
	modeDir     = 0o040000
	modeChar    = 0o020000
	modeFIFO    = 0o010000
	modePerm    = 0o007777
)

// Numbers of inodes and names that are always there.
const (
	noInode = 0 // of a name: there is only a whiteout
	root    = 1
	hidden  = 2 // the parent of what aufs left in old images ("/.wh..wh.plnk/…"): only hard links see it

	noDentry = 0
)

// flags of inodes
const (
	flagImplied uint16 = 1 << iota // a directory that only entries below it speak of
	flagOpaque                     // a directory that hides what is below
	flagSparse                     // a file with a map
	flagLower                      // a hard link to a file of a layer below: data and size are its target, in tree.arena
)

// inode is kept small: there can be a million.
type inode struct {
	size   int64  // file: bytes; symlink: bytes of the target
	mtime  int64  // seconds
	data   int64  // file: where in the tar (sparse: number in tree.maps); symlink: where in tree.arena
	nsec   uint32 // below 1e9
	uid    uint32
	gid    uint32
	rdev   uint32 // device: as the file has it
	nlink  uint32 // names
	xattrs uint32 // set of xattrTable
	name   uint32 // directory: its own name, noDentry of the roots
	parent uint32 // directory: the one above
	first  uint32 // directory: the last name made in it, where the list of its names begins
	mode   uint16 // type and permissions
	flags  uint16
}

func (n *inode) is(typ uint16) bool { return n.mode&modeType == typ }

// dentry is a name in a directory.
type dentry struct {
	dir    uint32
	inode  uint32
	next   uint32 // name in the same directory
	name   uint32 // where in tree.arena
	length uint8
	white  bool // the tar has a whiteout of this name, too
	dead   bool
}

// tree is what the entries of a tar so far make, as they would if they were unpacked one after the other.
type tree struct {
	inodes   []inode
	dentries []dentry
	table    []uint32 // open addressing: numbers of dentries, 0 free
	arena    []byte   // names and targets
	maps     []sparseMap
	xattrs   *xattrTable
	seed     maphash.Seed
	limits   Limits
	budget   *budget
	free     []uint32 // inodes that nothing names any more

	// The directory of the last entry, which is often that of the next, too.
	lastPath []byte
	lastDir  uint32
}

// sparseMap is the map of a sparse file.
type sparseMap struct {
	segs []segment
	plan chunkPlan
	copy int64 // once laid out: where in the file the copied chunks are, bytes
}

// What an inode and a name cost in the file, at least, bytes.
const (
	inodeCost  = 64
	dentryCost = 12
)

func newTree(limits Limits, b *budget) *tree {
	t := &tree{
		inodes:   make([]inode, 3, 1024),
		dentries: make([]dentry, 1, 1024),
		table:    make([]uint32, 2048),
		xattrs:   newXattrTable(),
		seed:     maphash.MakeSeed(),
		limits:   limits,
		budget:   b,
	}
	for _, n := range []uint32{root, hidden} {
		t.inodes[n] = inode{mode: modeDir | 0o755, parent: n, nlink: 1, flags: flagImplied}
	}
	return t
}

func (t *tree) name(d *dentry) []byte { return t.arena[d.name : d.name+uint32(d.length)] }

func (t *tree) target(n *inode) []byte { return t.arena[n.data : n.data+n.size] }

// slot is where in the table a search for a name begins.
func (t *tree) slot(dir uint32, name []byte) uint32 {
	h := maphash.Bytes(t.seed, name) ^ uint64(dir)*0x9e3779b97f4a7c15
	return uint32(h^h>>32) & uint32(len(t.table)-1)
}

// lookup finds a name in a directory; noDentry where it isn't.
func (t *tree) lookup(dir uint32, name []byte) uint32 {
	for i := t.slot(dir, name); ; i = (i + 1) & uint32(len(t.table)-1) {
		n := t.table[i]
		if n == noDentry {
			return noDentry
		}
		if d := &t.dentries[n]; d.dir == dir && !d.dead && bytes.Equal(t.name(d), name) {
			return n
		}
	}
}

// link makes a name, of a file (noInode: only a whiteout).
func (t *tree) link(dir uint32, name []byte, inode uint32) (uint32, error) {
	if len(t.dentries) > t.limits.Inodes {
		return 0, &LimitError{Limit: "Inodes", Max: int64(t.limits.Inodes), what: "files and directories", Path: string(name)}
	}
	if err := t.budget.take(int64(dentryCost+len(name)), name); err != nil {
		return 0, err
	}
	if len(t.dentries) >= len(t.table)/2 {
		t.grow()
	}
	n := uint32(len(t.dentries))
	t.dentries = append(t.dentries, dentry{
		dir: dir, inode: inode, next: t.inodes[dir].first, name: uint32(len(t.arena)), length: uint8(len(name)),
	})
	t.arena = append(t.arena, name...)
	t.inodes[dir].first = n
	t.insert(n)
	return n, nil
}

func (t *tree) insert(n uint32) {
	d := &t.dentries[n]
	i := t.slot(d.dir, t.name(d))
	for t.table[i] != noDentry {
		i = (i + 1) & uint32(len(t.table)-1)
	}
	t.table[i] = n
}

func (t *tree) grow() {
	t.table = make([]uint32, 2*len(t.table))
	for n := range t.dentries {
		if n != noDentry && !t.dentries[n].dead {
			t.insert(uint32(n))
		}
	}
}

// newInode takes an inode's number.
func (t *tree) newInode(n inode, path []byte) (uint32, error) {
	if err := t.budget.take(inodeCost, path); err != nil {
		return 0, err
	}
	if last := len(t.free) - 1; last >= 0 {
		i := t.free[last]
		t.free = t.free[:last]
		t.inodes[i] = n
		return i, nil
	}
	t.inodes = append(t.inodes, n)
	return uint32(len(t.inodes) - 1), nil
}

// drop takes a name away from an inode; the last one takes the inode.
func (t *tree) drop(n uint32) {
	if n == noInode {
		return
	}
	t.inodes[n].nlink--
	if t.inodes[n].nlink == 0 {
		t.free = append(t.free, n)
	}
}

// clear removes what a name stands for, with everything below it. The name itself stays, without inode.
func (t *tree) clear(n uint32) {
	t.lastPath = t.lastPath[:0]
	i := t.dentries[n].inode
	t.dentries[n].inode = noInode
	if i == noInode {
		return
	}
	if !t.inodes[i].is(modeDir) {
		t.drop(i)
		return
	}
	dirs := []uint32{i}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		for c := t.inodes[dir].first; c != noDentry; c = t.dentries[c].next {
			d := &t.dentries[c]
			d.dead = true
			switch {
			case d.inode == noInode:
			case t.inodes[d.inode].is(modeDir):
				dirs = append(dirs, d.inode)
			default:
				t.drop(d.inode)
			}
		}
		t.drop(dir)
	}
}

// path is the path of a name, without a leading slash.
func (t *tree) path(n uint32) string {
	var parts []uint32
	for n != noDentry {
		parts = append(parts, n)
		n = t.inodes[t.dentries[n].dir].name
	}
	slices.Reverse(parts)
	var b []byte
	for i, p := range parts {
		if i > 0 {
			b = append(b, '/')
		}
		b = append(b, t.name(&t.dentries[p])...)
	}
	return string(b)
}

// errNotHere is returned by walk where the tar so far has no such path.
var errNotHere = errors.New("no such file")

// maxFollow is how many symbolic links a path may go through (path_resolution(7)).
const maxFollow = 40

// walk finds the directory of a clean path (no leading slash, no "." and ".."; "" is the root), as it
// would be found if what came so far were unpacked and nothing else were there: symbolic links are
// followed inside of the root. With imply, directories that are not there are made, as old as the given
// time, unless a symbolic link leads to them (Docker's overlay2 does just that: mkdir -p, in a chroot).
func (t *tree) walk(path []byte, imply bool, mtime int64) (uint32, error) {
	if len(path) == 0 {
		return root, nil
	}
	if len(t.lastPath) > 0 && bytes.Equal(path, t.lastPath) {
		return t.lastDir, nil
	}
	dir := uint32(root)
	if isAUFS(path) {
		dir = hidden
	}
	rest, own, followed := path, len(path), 0
	for len(rest) > 0 {
		inOwn := len(rest) <= own // not in the target of a link
		var name []byte
		name, rest, _ = bytes.Cut(rest, []byte("/"))
		switch string(name) {
		case "", ".":
			continue
		case "..":
			dir = t.inodes[dir].parent
			continue
		}
		if len(name) > maxName {
			return 0, fmt.Errorf("a part of its path is longer than %d bytes", maxName)
		}
		n := t.lookup(dir, name)
		if n == noDentry || t.dentries[n].inode == noInode {
			if !imply {
				return 0, errNotHere
			}
			if !inOwn {
				return 0, errors.New("it is below a symbolic link that leads to nothing in this layer")
			}
			child, err := t.imply(dir, name, n, mtime)
			if err != nil {
				return 0, err
			}
			dir = child
			continue
		}
		child := &t.inodes[t.dentries[n].inode]
		switch {
		case child.is(modeDir):
			dir = t.dentries[n].inode
		case child.is(modeSymlink):
			if followed++; followed > maxFollow {
				return 0, errors.New("its path goes through too many symbolic links")
			}
			target := t.target(child)
			if inOwn {
				own = len(rest)
			}
			rest = slices.Concat(target, []byte("/"), rest)
			if len(rest) > 16*maxPath {
				return 0, errors.New("its path goes through too many symbolic links")
			}
			if target[0] == '/' {
				dir = root
			}
		default:
			return 0, fmt.Errorf("it is below %s, which is not a directory", quote(t.path(n)))
		}
	}
	if imply {
		t.lastPath, t.lastDir = append(t.lastPath[:0], path...), dir
	}
	return dir, nil
}

// imply makes a directory that only an entry below it speaks of. n is its name, where there is one with a
// whiteout only.
func (t *tree) imply(dir uint32, name []byte, n uint32, mtime int64) (uint32, error) {
	return t.attach(dir, name, n, inode{mode: modeDir | 0o755, mtime: mtime, flags: flagImplied})
}

// attach makes an inode and gives it a name, which is there (n) or not (noDentry).
func (t *tree) attach(dir uint32, name []byte, n uint32, what inode) (uint32, error) {
	what.nlink, what.parent = 1, dir
	i, err := t.newInode(what, name)
	if err != nil {
		return 0, err
	}
	if n == noDentry {
		if n, err = t.link(dir, name, i); err != nil {
			return 0, err
		}
	}
	t.dentries[n].inode = i
	if what.is(modeDir) {
		t.inodes[i].name = n
	}
	return i, nil
}

// store keeps bytes in the arena and says where.
func (t *tree) store(b []byte, path []byte) (int64, error) {
	if err := t.budget.take(int64(len(b)), path); err != nil {
		return 0, err
	}
	at := len(t.arena)
	t.arena = append(t.arena, b...)
	return int64(at), nil
}
