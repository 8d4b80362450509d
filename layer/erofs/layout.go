package erofs

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// layout gives everything behind the tar its place.
//
//	metaBlock  inodes, each with its attributes and with what is kept inline
//	xattr      attributes that several inodes share
//	           blocks of directories and of targets of long symbolic links
//	           copied parts of sparse files
type layout struct {
	t       *tree
	order   []uint32 // inodes in the order of the file: breadth first, names sorted
	nids    []uint32 // by inode; nidNew and nidSeen before they have their place
	white   uint32   // the inode of all whiteouts, or noInode
	epoch   int64
	tarSize int64
	meta    int64 // bytes from the file's beginning
	xattr   int64
	blocks  int64
	copies  int64
	size    int64
	places  []place // by place in order: of directories and targets
	scratch []byte
}

// place is where the data of a directory or a symbolic link is.
type place struct {
	block  uint32
	size   int64
	inline bool // the last, partial block is behind the inode
}

const (
	nidNew  = 0
	nidSeen = 1
	rootAt  = extendedSize // nothing is at 0: no inode has the number 0
	// inlineMax is the size up to which an inode with the end of its directory is kept together in a block:
	// above it the hole in front of it costs more than the block that is saved.
	inlineMax = 384
)

// newLayout lays out t behind a tar.
func newLayout(t *tree, tarSize int64) *layout {
	l := &layout{t: t, tarSize: tarSize}
	l.arrange()
	l.epoch = l.commonTime()
	l.shareXattrs()
	l.place()
	return l
}

// arrange sorts the names of every directory, finds the order of inodes, counts links and marks opaque
// directories.
func (l *layout) arrange() {
	t := l.t
	l.nids = make([]uint32, len(t.inodes)+1)
	l.order = append(make([]uint32, 0, len(t.inodes)), root)
	l.nids[root] = nidSeen
	t.inodes[root].nlink = 2
	if t.inodes[root].flags&flagOpaque != 0 {
		l.markOpaque(root)
	}
	var names []uint32
	for i := 0; i < len(l.order); i++ {
		dir := l.order[i]
		if !t.inodes[dir].is(modeDir) {
			continue
		}
		names = l.sortNames(dir, names[:0])
		for _, n := range names {
			l.arrive(dir, &t.dentries[n])
		}
	}
}

// sortNames sorts the names of a directory, and forgets those that are not to be in the file.
func (l *layout) sortNames(dir uint32, names []uint32) []uint32 {
	t := l.t
	for n := t.inodes[dir].first; n != noDentry; n = t.dentries[n].next {
		d := &t.dentries[n]
		if d.dead {
			continue
		}
		if d.inode != noInode && t.inodes[d.inode].flags&flagLower != 0 {
			d.inode = noInode // nothing of it in this file
		}
		if d.inode == noInode {
			if !d.white {
				continue
			}
			d.inode = l.whiteout()
		}
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b uint32) int {
		return bytes.Compare(t.name(&t.dentries[a]), t.name(&t.dentries[b]))
	})
	next := uint32(noDentry)
	for _, n := range slices.Backward(names) {
		t.dentries[n].next = next
		next = n
	}
	t.inodes[dir].first = next
	return names
}

// whiteout returns the inode of all whiteouts.
func (l *layout) whiteout() uint32 {
	if l.white == noInode {
		l.white = uint32(len(l.t.inodes))
		l.t.inodes = append(l.t.inodes, inode{mode: modeChar})
	}
	return l.white
}

// arrive counts a name of an inode, and puts it in the order the first time.
func (l *layout) arrive(dir uint32, d *dentry) {
	t := l.t
	n := &t.inodes[d.inode]
	if l.nids[d.inode] == nidNew {
		l.nids[d.inode] = nidSeen
		l.order = append(l.order, d.inode)
		n.nlink = 0
	}
	if !n.is(modeDir) {
		n.nlink++
		return
	}
	n.nlink = 2
	t.inodes[dir].nlink++
	if d.white || n.flags&flagOpaque != 0 {
		l.markOpaque(d.inode)
	}
}

func (l *layout) markOpaque(dir uint32) {
	n := &l.t.inodes[dir]
	n.xattrs, _ = l.t.xattrs.add(append(l.t.xattrs.get(n.xattrs), opaque))
}

// commonTime is the time that most inodes have: those with it can be compact. (Kernels before 6.15 know
// no other time of a compact inode than the superblock's.)
func (l *layout) commonTime() int64 {
	times := make([]int64, 0, len(l.order))
	for _, i := range l.order {
		if n := &l.t.inodes[i]; n.nsec == 0 && i != l.white {
			times = append(times, n.mtime)
		}
	}
	slices.Sort(times)
	var best int64
	most := 0
	for len(times) > 0 {
		n, _ := slices.BinarySearch(times, times[0]+1)
		if times[0] == 1<<63-1 {
			n = len(times)
		}
		if n > most {
			best, most = times[0], n
		}
		times = times[n:]
	}
	if l.white != noInode {
		l.t.inodes[l.white].mtime = best
	}
	return best
}

func (l *layout) shareXattrs() {
	uses := make([]uint32, len(l.t.xattrs.sets))
	for _, i := range l.order {
		uses[l.t.inodes[i].xattrs]++
	}
	l.t.xattrs.share(uses)
}

// compact says whether an inode fits into the short form.
func (l *layout) compact(n *inode, size int64) bool {
	return n.mtime == l.epoch && n.nsec == 0 && n.uid < 1<<16 && n.gid < 1<<16 && n.nlink < 1<<16 && size < 1<<32
}

// place gives every inode and block its place.
func (l *layout) place() {
	l.places = make([]place, len(l.order))
	l.meta = roundUp(headerSize+l.tarSize, blockSize)
	pos, blocks, copies := int64(rootAt), int64(0), int64(0)
	for number, i := range l.order {
		n := &l.t.inodes[i]
		data := int64(0) // of a directory or target
		switch {
		case n.is(modeDir):
			data = l.dirSize(i)
		case n.is(modeSymlink):
			data = n.size
		}
		size := int64(extendedSize)
		if l.compact(n, max(data, n.size)) {
			size = compactSize
		}
		size += int64(l.t.xattrs.size(n.xattrs))
		switch {
		case n.is(modeDir):
			p := place{size: data, block: uint32(blocks)}
			tail := data % blockSize
			p.inline = tail > 0 && size+tail <= inlineMax
			blocks += data / blockSize
			if p.inline {
				size += tail
			} else if tail > 0 {
				blocks++
			}
			l.places[number] = p
			pos = fit(pos, size, p.inline)
		case n.is(modeSymlink):
			p := place{size: data, block: uint32(blocks)}
			p.inline = size+data <= blockSize
			if p.inline {
				size += data
			} else {
				blocks += roundUp(data, blockSize) / blockSize
			}
			l.places[number] = p
			pos = fit(pos, size, p.inline)
		case n.flags&flagSparse != 0:
			m := &l.t.maps[n.data]
			size += m.plan.chunks * mapEntry
			m.copy = copies
			copies += m.plan.copied
			pos = fit(pos, size, false)
		default:
			pos = fit(pos, size, false)
		}
		l.nids[i] = uint32(pos / slot)
		pos = roundUp(pos+size, slot)
	}
	l.xattr = l.meta + roundUp(pos, blockSize)
	l.blocks = l.xattr + roundUp(int64(len(l.t.xattrs.area)), blockSize)
	l.copies = l.blocks + blocks*blockSize
	l.size = roundUp(l.copies+copies, fileAlign)
	for i := range l.t.maps {
		l.t.maps[i].copy += l.copies
	}
}

// fit moves pos on where an inode of size bytes would cross the end of a block, and must not: with what is
// inline it has to be in one block, without that its first 64 bytes had better.
func fit(pos, size int64, inline bool) int64 {
	need := int64(extendedSize)
	if inline {
		need = size
	}
	need = min(need, size)
	if pos%blockSize+need > blockSize {
		return roundUp(pos, blockSize)
	}
	return pos
}

// names calls fn for all entries of a directory, "." and ".." too, in the order of the file: by their
// bytes.
func (l *layout) names(dir uint32, fn func(name []byte, inode uint32)) {
	t := l.t
	special := []struct {
		name  string
		inode uint32
	}{{".", dir}, {"..", t.inodes[dir].parent}}
	for n := t.inodes[dir].first; n != noDentry; n = t.dentries[n].next {
		d := &t.dentries[n]
		name := t.name(d)
		for len(special) > 0 && special[0].name < string(name) {
			fn([]byte(special[0].name), special[0].inode)
			special = special[1:]
		}
		fn(name, d.inode)
	}
	for _, s := range special {
		fn([]byte(s.name), s.inode)
	}
}

// dirSize is the number of bytes of a directory: no entry crosses a block.
func (l *layout) dirSize(dir uint32) int64 {
	full, used := int64(0), 0
	l.names(dir, func(name []byte, _ uint32) {
		need := direntSize + len(name)
		if used+need > blockSize {
			full++
			used = 0
		}
		used += need
	})
	return full*blockSize + int64(used)
}

// appendDir appends the bytes of a directory: in each block the entries, then their names.
func (l *layout) appendDir(b []byte, dir uint32) []byte {
	type entry struct {
		name  []byte
		inode uint32
	}
	var block []entry
	used := 0
	flush := func() {
		at := direntSize * len(block)
		for _, e := range block {
			b = binary.LittleEndian.AppendUint64(b, uint64(l.nids[e.inode]))
			b = binary.LittleEndian.AppendUint16(b, uint16(at))
			b = append(b, fileType(l.t.inodes[e.inode].mode), 0)
			at += len(e.name)
		}
		for _, e := range block {
			b = append(b, e.name...)
		}
	}
	l.names(dir, func(name []byte, inode uint32) {
		need := direntSize + len(name)
		if used+need > blockSize {
			flush()
			b = append(b, make([]byte, blockSize-used)...)
			block, used = block[:0], 0
		}
		block = append(block, entry{name, inode})
		used += need
	})
	flush()
	return b
}

// appendInode appends an inode with its attributes and what is inline behind it.
func (l *layout) appendInode(b []byte, i uint32, number int) []byte {
	le := binary.LittleEndian
	n := &l.t.inodes[i]
	size, u, format := n.size, uint32(0), uint16(layoutPlain)
	p := l.places[number]
	switch {
	case n.is(modeDir), n.is(modeSymlink):
		size, u = p.size, uint32(l.blocks/blockSize)+p.block
		if p.inline {
			format = layoutInline << 1
		}
		if p.inline && size < blockSize {
			u = 0
		}
	case n.flags&flagSparse != 0:
		format, u = layoutChunks<<1, uint32(l.t.maps[n.data].plan.bits)
	case n.is(modeFile):
		if size > 0 {
			u = uint32((headerSize + n.data) / blockSize)
		}
	default:
		size, u = 0, n.rdev
	}
	xattrs := uint16(0)
	if x := l.t.xattrs.size(n.xattrs); x > 0 {
		xattrs = uint16((x-xattrHeader)/4 + 1)
	}
	if l.compact(n, size) {
		var f [compactSize]byte
		le.PutUint16(f[0:], format)
		le.PutUint16(f[2:], xattrs)
		le.PutUint16(f[4:], n.mode)
		le.PutUint16(f[6:], uint16(n.nlink))
		le.PutUint32(f[8:], uint32(size))
		le.PutUint32(f[16:], u)
		le.PutUint32(f[20:], uint32(number+1))
		le.PutUint16(f[24:], uint16(n.uid))
		le.PutUint16(f[26:], uint16(n.gid))
		b = append(b, f[:]...)
	} else {
		var f [extendedSize]byte
		le.PutUint16(f[0:], format|extendedBit)
		le.PutUint16(f[2:], xattrs)
		le.PutUint16(f[4:], n.mode)
		le.PutUint64(f[8:], uint64(size))
		le.PutUint32(f[16:], u)
		le.PutUint32(f[20:], uint32(number+1))
		le.PutUint32(f[24:], n.uid)
		le.PutUint32(f[28:], n.gid)
		le.PutUint64(f[32:], uint64(n.mtime))
		le.PutUint32(f[40:], n.nsec)
		le.PutUint32(f[44:], n.nlink)
		b = append(b, f[:]...)
	}
	b = l.t.xattrs.appendSet(b, n.xattrs)
	switch {
	case n.is(modeDir) && p.inline:
		l.scratch = l.appendDir(l.scratch[:0], i)
		b = append(b, l.scratch[p.size/blockSize*blockSize:]...)
	case n.is(modeSymlink) && p.inline:
		b = append(b, l.t.target(n)...)
	case n.flags&flagSparse != 0:
		b = l.t.maps[n.data].appendTable(b, n.size)
	}
	return b
}
