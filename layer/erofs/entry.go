package erofs

import (
	"bytes"
	"errors"
	"fmt"
)

// Whiteouts in a layer's tar (OCI image-spec, layer.md, "Whiteouts").
const (
	whiteout       = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutAUFS   = ".wh..wh."
)

// isAUFS says whether a clean path is of what aufs kept beside the files of a layer: old images have it
// at their root, Docker passes over it, but hard links can lead there.
func isAUFS(path []byte) bool {
	return bytes.HasPrefix(path, []byte(whiteoutAUFS)) && string(path) != whiteoutOpaque
}

// add applies one entry to the tree.
func (t *tree) add(h *header) error {
	err := t.apply(h)
	var limit *LimitError
	var entry *EntryError
	if err == nil || errors.As(err, &entry) {
		return err
	}
	if errors.As(err, &limit) {
		limit.Path = string(h.name)
		return limit
	}
	return &EntryError{Path: string(h.name), Offset: h.offset, Reason: err.Error()}
}

func (t *tree) apply(h *header) error {
	path, err := cleanPath(h.name)
	if err != nil {
		return err
	}
	if len(path) == 0 {
		return t.applyRoot(h)
	}
	dirPath, name := splitPath(path)
	aufs := isAUFS(path)
	if aufs && len(dirPath) == 0 {
		dirPath = nil
	} else if bytes.HasPrefix(name, []byte(whiteout)) && !aufs {
		return t.applyWhiteout(h, dirPath, name)
	}
	if len(name) > maxName {
		return fmt.Errorf("its name is longer than %d bytes", maxName)
	}
	what, err := t.describe(h)
	if err != nil {
		return err
	}
	dir := uint32(hidden)
	if !aufs || len(dirPath) > 0 {
		if dir, err = t.walk(dirPath, true, h.mtime); err != nil {
			return err
		}
	}
	if h.typ == typeLink {
		return t.applyLink(h, path, dir, name)
	}
	return t.put(h, dir, name, what)
}

// applyRoot applies an entry of the root itself. As with Docker (and containerd), owner and permissions
// that it says are not the image's root's: tars made in temporary directories have 0700 there.
func (t *tree) applyRoot(h *header) error {
	if h.typ != typeDir {
		return errors.New("the root of a layer can only be a directory")
	}
	t.inodes[root].mtime, t.inodes[root].nsec = h.mtime, h.nsec
	t.inodes[root].flags &^= flagImplied
	return nil
}

// applyWhiteout hides what is below: one name, or all of a directory.
func (t *tree) applyWhiteout(h *header, dirPath, name []byte) error {
	hides := name[len(whiteout):]
	switch string(hides) {
	case "", ".", "..":
		return errors.New("a whiteout that names nothing")
	}
	if string(name) != whiteoutOpaque && len(hides) > maxName {
		return fmt.Errorf("its name is longer than %d bytes", maxName)
	}
	dir, err := t.walk(dirPath, true, h.mtime)
	if err != nil {
		return err
	}
	if string(name) == whiteoutOpaque {
		t.inodes[dir].flags |= flagOpaque
		return nil
	}
	n := t.lookup(dir, hides)
	if n == noDentry {
		if n, err = t.link(dir, hides, noInode); err != nil {
			return err
		}
	}
	t.dentries[n].white = true
	return nil
}

// describe checks an entry by itself and makes the inode that it describes (of a hard link: what it says
// of its target's).
func (t *tree) describe(h *header) (inode, error) {
	n := inode{mtime: h.mtime, nsec: h.nsec, mode: uint16(h.mode & modePerm)}
	switch h.typ {
	case typeFile, typeCont:
		n.mode |= modeFile
	case typeDir:
		n.mode |= modeDir
	case typeSymlink:
		n.mode = modeSymlink | 0o777 // Linux has no others
		if len(h.link) == 0 {
			return n, errors.New("a symbolic link without a target")
		}
		if len(h.link) > maxTarget {
			return n, fmt.Errorf("the target of a symbolic link is longer than %d bytes", maxTarget)
		}
	case typeChar:
		n.mode |= modeChar
	case typeBlock:
		n.mode |= modeBlock
	case typeFIFO:
		n.mode |= modeFIFO
	case typeLink:
		return n, t.describeOwner(h, &n)
	default:
		return n, fmt.Errorf("its type %q is not known", h.typ)
	}
	if h.typ == typeChar || h.typ == typeBlock {
		if h.major < 0 || h.major > maxMajor || h.minor < 0 || h.minor > maxMinor {
			return n, fmt.Errorf("its device number %d:%d is out of range", h.major, h.minor)
		}
		n.rdev = uint32(h.minor&0xff | h.major<<8 | (h.minor&^0xff)<<12) // new_encode_dev of linux/kdev_t.h
	}
	return n, t.describeOwner(h, &n)
}

func (t *tree) describeOwner(h *header, n *inode) error {
	if h.uid < 0 || h.uid > maxID {
		return fmt.Errorf("its owner %d is out of range", h.uid)
	}
	if h.gid < 0 || h.gid > maxID {
		return fmt.Errorf("its group %d is out of range", h.gid)
	}
	n.uid, n.gid = uint32(h.uid), uint32(h.gid)
	return nil
}

// put gives a name to the inode that an entry describes. What had the name is replaced, but a directory
// by a directory keeps what is in it.
func (t *tree) put(h *header, dir uint32, name []byte, what inode) error {
	set, err := t.admit(h, h.xattrs, what.mode&modeType)
	if err != nil {
		return err
	}
	what.xattrs = set
	n := t.lookup(dir, name)
	if n != noDentry && t.dentries[n].inode != noInode {
		old := &t.inodes[t.dentries[n].inode]
		if old.is(modeDir) && what.is(modeDir) {
			old.mode, old.uid, old.gid, old.mtime, old.nsec, old.xattrs = what.mode, what.uid, what.gid, what.mtime, what.nsec, what.xattrs
			old.flags &^= flagImplied
			return nil
		}
		t.clear(n)
	}
	switch what.mode & modeType {
	case modeSymlink:
		if what.data, err = t.store(h.link, h.name); err != nil {
			return err
		}
		what.size = int64(len(h.link))
	case modeFile:
		what.size, what.data = h.size, h.data
		if h.sparse {
			if err := t.putMap(h, &what); err != nil {
				return err
			}
		}
	}
	_, err = t.attach(dir, name, n, what)
	return err
}

// putMap keeps the map of a sparse file, unless the file is whole all the same.
func (t *tree) putMap(h *header, what *inode) error {
	if h.size == 0 || (len(h.segs) == 1 && h.segs[0].size == h.size) {
		return nil
	}
	plan := planChunks(h.size, h.segs)
	if err := t.budget.take(plan.cost(), h.name); err != nil {
		return err
	}
	what.flags |= flagSparse
	what.data = int64(len(t.maps))
	t.maps = append(t.maps, sparseMap{segs: append([]segment(nil), h.segs...), plan: plan})
	return nil
}

// admit makes a set of the attributes that may come in.
func (t *tree) admit(h *header, xattrs []xattr, typ uint16) (uint32, error) {
	set, err := admit(xattrs, typ)
	if err != nil || len(set) == 0 {
		return 0, err
	}
	size := 0
	for _, x := range set {
		size += len(x.name) + len(x.value)
	}
	if size > t.limits.Xattrs {
		return 0, &LimitError{Limit: "Xattrs", Max: int64(t.limits.Xattrs), what: "bytes of extended attributes"}
	}
	id, cost := t.xattrs.add(set)
	return id, t.budget.take(cost+int64(4*len(set)), h.name)
}

// applyLink makes a hard link.
func (t *tree) applyLink(h *header, path []byte, dir uint32, name []byte) error {
	target, err := cleanPath(h.link)
	if err != nil {
		return fmt.Errorf("the target %s of a hard link: %w", quote(string(h.link)), err)
	}
	if len(target) == 0 {
		return errors.New("a hard link to the root")
	}
	if bytes.Equal(target, path) {
		return errors.New("a hard link to itself")
	}
	n := t.lookup(dir, name)
	to, err := t.find(target)
	if errors.Is(err, errNotHere) {
		return t.applyLowerLink(h, target, dir, name, n)
	}
	if err != nil {
		return fmt.Errorf("the target %s of a hard link: %w", quote(string(h.link)), err)
	}
	if to == n {
		return errors.New("a hard link to itself")
	}
	i := t.dentries[to].inode
	if t.inodes[i].is(modeDir) {
		return fmt.Errorf("a hard link to %s, which is a directory", quote(string(h.link)))
	}
	if n != noDentry && t.dentries[n].inode == i {
		return t.restat(h, i)
	}
	if n != noDentry {
		t.clear(n)
		if t.dentries[to].dead {
			return fmt.Errorf("a hard link to %s, which it replaces", quote(string(h.link)))
		}
	}
	if n == noDentry {
		if n, err = t.link(dir, name, noInode); err != nil {
			return err
		}
	}
	t.dentries[n].inode = i
	t.inodes[i].nlink++
	return t.restat(h, i)
}

// restat gives an inode what a hard link to it says of it: when unpacked, owner, permissions, time and
// attributes are set of that name, too (Docker does so), and the last one wins.
func (t *tree) restat(h *header, i uint32) error {
	n := &t.inodes[i]
	if n.flags&flagLower != 0 {
		return nil
	}
	n.uid, n.gid, n.mtime, n.nsec = uint32(h.uid), uint32(h.gid), h.mtime, h.nsec
	if !n.is(modeSymlink) {
		n.mode = n.mode&modeType | uint16(h.mode&modePerm)
	}
	if len(h.xattrs) == 0 {
		return nil
	}
	set, err := t.admit(h, append(t.xattrs.get(n.xattrs), h.xattrs...), n.mode&modeType)
	n.xattrs = set
	return err
}

// applyLowerLink notes a hard link whose target is not in this layer.
func (t *tree) applyLowerLink(h *header, target []byte, dir uint32, name []byte, n uint32) error {
	if dir == hidden || isAUFS(target) {
		return fmt.Errorf("a hard link to %s, which is not there", quote(string(h.link)))
	}
	if n != noDentry {
		t.clear(n)
	}
	at, err := t.store(target, h.name)
	if err != nil {
		return err
	}
	_, err = t.attach(dir, name, n, inode{mode: modeFile, flags: flagLower, data: at, size: int64(len(target))})
	return err
}

// find finds the name at a clean path, not following a link that it is itself.
func (t *tree) find(path []byte) (uint32, error) {
	dirPath, name := splitPath(path)
	dir := uint32(hidden)
	if !isAUFS(path) || len(dirPath) > 0 {
		var err error
		if dir, err = t.walk(dirPath, false, 0); err != nil {
			return 0, err
		}
	}
	n := t.lookup(dir, name)
	if n == noDentry || t.dentries[n].inode == noInode {
		return 0, errNotHere
	}
	return n, nil
}

// cleanPath makes a path as a tar has it one without a leading slash, "." and "..": "" is the root. As
// with Docker, an absolute path is one from the layer's root, and ".." is resolved by the text; where it
// leads out of the root, the path is refused.
func cleanPath(p []byte) ([]byte, error) {
	if bytes.IndexByte(p, 0) >= 0 {
		return nil, errors.New("its path has a NUL byte")
	}
	absolute := len(p) > 0 && p[0] == '/'
	clean := make([]byte, 0, len(p))
	for part := range bytes.SplitSeq(p, []byte("/")) {
		switch string(part) {
		case "", ".":
			continue
		case "..":
			if len(clean) == 0 && !absolute {
				return nil, errors.New("its path leads out of the layer's root")
			}
			clean = clean[:max(bytes.LastIndexByte(clean, '/'), 0)]
			continue
		}
		if len(clean) > 0 {
			clean = append(clean, '/')
		}
		clean = append(clean, part...)
	}
	if len(clean) > maxPath {
		return nil, fmt.Errorf("its path is longer than %d bytes", maxPath)
	}
	return clean, nil
}

func splitPath(path []byte) (dir, name []byte) {
	if i := bytes.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return nil, path
}
