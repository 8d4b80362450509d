package unpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// From erofs_fs.h.
const (
	superAt     = 1024
	superSize   = 128
	superMagic  = 0xe0f5e1e2
	blockSize   = 512
	slotSize    = 32 // inodes are numbered by their place, in units of this many bytes
	compactSize = 32
	fullSize    = 64
	direntSize  = 12
	xattrHeader = 12
	xattrEntry  = 4

	layoutPlain  = 0
	layoutInline = 2
	layoutChunks = 4

	chunkBitsMask = 0x1f
	chunkIndexes  = 0x20
	noBlock       = ^uint32(0)
)

// errDamaged is wrapped where the image is not what package erofs writes.
var errDamaged = errors.New("not an image that this version has written")

// image is an open EROFS image.
type image struct {
	r      io.ReaderAt
	root   uint64 // number of the root's inode
	epoch  int64  // time of compact inodes
	meta   int64  // where inodes are numbered from
	shared int64  // where shared attributes are
}

func openImage(r io.ReaderAt) (*image, error) {
	b := make([]byte, superSize)
	if _, err := r.ReadAt(b, superAt); err != nil {
		return nil, fmt.Errorf("read the superblock: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint32(b) != superMagic || 1<<b[12] != blockSize {
		return nil, fmt.Errorf("superblock: %w", errDamaged)
	}
	return &image{
		r:      r,
		root:   uint64(le.Uint16(b[14:])),
		epoch:  int64(le.Uint64(b[24:])),
		meta:   int64(le.Uint32(b[40:])) * blockSize,
		shared: int64(le.Uint32(b[44:])) * blockSize,
	}, nil
}

// inode is one file of an image.
type inode struct {
	number uint64
	mode   uint32
	uid    int
	gid    int
	nlink  uint32
	size   int64
	mtime  unix.Timespec
	union  uint32 // device, first block, or shape of the chunks
	layout uint16
	xattrs int64 // where they are
	tail   int64 // where they end: what is kept inline, or the table of chunks
}

func (m *image) inode(number uint64) (inode, error) {
	at := m.meta + int64(number)*slotSize
	b := make([]byte, fullSize)
	if n, err := m.r.ReadAt(b, at); n < compactSize {
		return inode{}, fmt.Errorf("read inode %d: %w", number, err)
	}
	le := binary.LittleEndian
	format, count := le.Uint16(b), int64(le.Uint16(b[2:]))
	n := inode{
		number: number,
		mode:   uint32(le.Uint16(b[4:])),
		layout: format >> 1 & 7,
		union:  le.Uint32(b[16:]),
	}
	if format&1 == 0 {
		n.nlink, n.size = uint32(le.Uint16(b[6:])), int64(le.Uint32(b[8:]))
		n.uid, n.gid = int(le.Uint16(b[24:])), int(le.Uint16(b[26:]))
		n.mtime.Sec = m.epoch
		n.xattrs = at + compactSize
	} else {
		n.nlink, n.size = le.Uint32(b[44:]), int64(le.Uint64(b[8:]))
		n.uid, n.gid = int(le.Uint32(b[24:])), int(le.Uint32(b[28:]))
		n.mtime = unix.Timespec{Sec: int64(le.Uint64(b[32:])), Nsec: int64(le.Uint32(b[40:]))}
		n.xattrs = at + fullSize
	}
	n.tail = n.xattrs
	if count > 0 {
		n.tail += xattrHeader + (count-1)*xattrEntry
	}
	if n.size < 0 {
		return inode{}, fmt.Errorf("inode %d: %w", number, errDamaged)
	}
	return n, nil
}

// extent is a run of bytes of a file: a hole where at is negative.
type extent struct {
	at, size int64
}

// extents say where in the image an inode's data is, in order.
func (m *image) extents(n inode) ([]extent, error) {
	if n.size == 0 {
		return nil, nil
	}
	start := int64(n.union) * blockSize
	switch n.layout {
	case layoutPlain:
		return []extent{{start, n.size}}, nil
	case layoutInline:
		inline := n.size % blockSize
		if n.size == inline {
			return []extent{{n.tail, inline}}, nil
		}
		return []extent{{start, n.size - inline}, {n.tail, inline}}, nil
	case layoutChunks:
		return m.chunks(n)
	}
	return nil, fmt.Errorf("inode %d is of layout %d: %w", n.number, n.layout, errDamaged)
}

// chunks reads the table of a sparse file. Neighbours become one extent.
func (m *image) chunks(n inode) ([]extent, error) {
	if n.union&chunkIndexes != 0 {
		return nil, fmt.Errorf("inode %d has a table of indexes: %w", n.number, errDamaged)
	}
	size := int64(blockSize) << (n.union & chunkBitsMask)
	table := io.NewSectionReader(m.r, n.tail, ((n.size-1)/size+1)*4)
	var list []extent
	b := make([]byte, 4)
	for done := int64(0); done < n.size; done += size {
		if _, err := io.ReadFull(table, b); err != nil {
			return nil, fmt.Errorf("read the table of inode %d: %w", n.number, err)
		}
		next := extent{at: -1, size: min(size, n.size-done)}
		if block := binary.LittleEndian.Uint32(b); block != noBlock {
			next.at = int64(block) * blockSize
		}
		if last := len(list) - 1; last >= 0 && (next.at < 0 && list[last].at < 0 || next.at >= 0 && list[last].at >= 0 && list[last].at+list[last].size == next.at) {
			list[last].size += next.size
			continue
		}
		list = append(list, next)
	}
	return list, nil
}

// maxSmall bounds what is read into memory at once: the entries of a directory. (package erofs has a
// limit for all metadata of a layer together.)
const maxSmall = 256 << 20

// read returns all of an inode's data: a directory or a symbolic link.
func (m *image) read(n inode) ([]byte, error) {
	if n.size > maxSmall {
		return nil, fmt.Errorf("inode %d has %d bytes: %w", n.number, n.size, errDamaged)
	}
	list, err := m.extents(n)
	if err != nil {
		return nil, err
	}
	var data []byte
	for _, e := range list {
		part := make([]byte, e.size)
		if e.at >= 0 {
			if _, err := m.r.ReadAt(part, e.at); err != nil {
				return nil, fmt.Errorf("read inode %d: %w", n.number, err)
			}
		}
		data = append(data, part...)
	}
	return data, nil
}

// entry is a name in a directory.
type entry struct {
	name  string
	inode uint64
}

// entries returns the names in a directory, but for "." and "..".
func (m *image) entries(dir inode) ([]entry, error) {
	data, err := m.read(dir)
	if err != nil {
		return nil, err
	}
	var list []entry
	for len(data) > 0 {
		block := data[:min(blockSize, len(data))]
		data = data[len(block):]
		part, err := blockEntries(block)
		if err != nil {
			return nil, fmt.Errorf("directory %d: %w", dir.number, err)
		}
		list = append(list, part...)
	}
	return list, nil
}

// blockEntries reads one block of a directory: the fixed parts, then the names.
func blockEntries(block []byte) ([]entry, error) {
	le := binary.LittleEndian
	if len(block) < direntSize {
		return nil, errDamaged
	}
	count := int(le.Uint16(block[8:])) / direntSize
	if count == 0 || count*direntSize > len(block) {
		return nil, errDamaged
	}
	var list []entry
	for i := range count {
		d := block[i*direntSize:]
		from, to := int(le.Uint16(d[8:])), len(block)
		if i+1 < count {
			to = int(le.Uint16(d[direntSize+8:]))
		}
		if from > to || to > len(block) {
			return nil, errDamaged
		}
		name := block[from:to]
		if end := bytes.IndexByte(name, 0); end >= 0 { // the last name of a block is padded
			name = name[:end]
		}
		switch s := string(name); {
		case s == "." || s == "..":
		case s == "" || bytes.IndexByte(name, '/') >= 0:
			return nil, fmt.Errorf("name %q: %w", s, errDamaged)
		default:
			list = append(list, entry{s, le.Uint64(d)})
		}
	}
	return list, nil
}

// xattrPrefixes are the beginnings of names by their number (erofs_fs.h, EROFS_XATTR_INDEX_*).
var xattrPrefixes = map[byte]string{
	1: "user.",
	2: "system.posix_acl_access",
	3: "system.posix_acl_default",
	4: "trusted.",
	6: "security.",
}

type xattr struct {
	name  string
	value []byte
}

// xattributes returns an inode's extended attributes.
func (m *image) xattributes(n inode) ([]xattr, error) {
	if n.tail == n.xattrs {
		return nil, nil
	}
	b := make([]byte, n.tail-n.xattrs)
	if _, err := m.r.ReadAt(b, n.xattrs); err != nil {
		return nil, fmt.Errorf("read the attributes of inode %d: %w", n.number, err)
	}
	shared := int(b[4])
	own := xattrHeader + 4*shared
	if own > len(b) {
		return nil, fmt.Errorf("attributes of inode %d: %w", n.number, errDamaged)
	}
	var list []xattr
	for i := range shared {
		at := m.shared + 4*int64(binary.LittleEndian.Uint32(b[xattrHeader+4*i:]))
		x, _, err := m.xattributeAt(at)
		if err != nil {
			return nil, fmt.Errorf("shared attribute of inode %d: %w", n.number, err)
		}
		list = append(list, x)
	}
	for at := n.xattrs + int64(own); at < n.tail; {
		x, size, err := m.xattributeAt(at)
		if err != nil {
			return nil, fmt.Errorf("attribute of inode %d: %w", n.number, err)
		}
		list = append(list, x)
		at += size
	}
	return list, nil
}

// xattributeAt reads one attribute, and says how many bytes it takes.
func (m *image) xattributeAt(at int64) (xattr, int64, error) {
	head := make([]byte, xattrEntry)
	if _, err := m.r.ReadAt(head, at); err != nil {
		return xattr{}, 0, err
	}
	prefix, ok := xattrPrefixes[head[1]]
	if !ok {
		return xattr{}, 0, errDamaged
	}
	name, value := int(head[0]), int(binary.LittleEndian.Uint16(head[2:]))
	b := make([]byte, name+value)
	if _, err := m.r.ReadAt(b, at+xattrEntry); err != nil {
		return xattr{}, 0, err
	}
	size := int64(xattrEntry+len(b)+3) &^ 3
	return xattr{prefix + string(b[:name]), b[name:]}, size, nil
}
