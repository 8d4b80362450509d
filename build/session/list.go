package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-engine/berth/internal/fileattr"
)

// Limits of a list. A longer one is refused with a sentence.
const (
	MaxEntries   = 4 << 20   // entries of a list
	maxPath      = 4095      // bytes of a path (PATH_MAX without its NUL)
	maxComponent = 255       // bytes of a name (NAME_MAX)
	maxXattrs    = 64 << 10  // bytes of an entry's attributes, names included
	maxListBytes = 512 << 20 // bytes of an encoded list
)

// Types in Entry.Mode, as stat(2) has them on every Linux.
const (
	ModeType = 0o170000
	ModeReg  = 0o100000
	ModeDir  = 0o040000
	ModeLink = 0o120000
	ModeChar = 0o020000
	ModeBlk  = 0o060000
	ModeFIFO = 0o010000
)

// IsReg says whether the entry is a regular file with a content of its own (a hard link is not).
func (e *Entry) IsReg() bool { return e.Mode&ModeType == ModeReg && e.Hardlink == "" }

// IsDir says whether the entry is a directory.
func (e *Entry) IsDir() bool { return e.Mode&ModeType == ModeDir }

// ComparePaths orders paths component by component: a directory comes right before what is in it.
func ComparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		if a[i] == '/' {
			return -1
		}
		if b[i] == '/' {
			return 1
		}
		return int(a[i]) - int(b[i])
	}
	return len(a) - len(b)
}

const (
	hasHardlink = 1 << iota
	hasLink
	hasRdev
	hasXattrs
)

// AppendEntry appends e to an encoded list whose last entry was prev (the zero Entry at first).
func AppendEntry(b []byte, e, prev *Entry) []byte {
	shared := 0
	for shared < len(e.Path) && shared < len(prev.Path) && e.Path[shared] == prev.Path[shared] {
		shared++
	}
	var has byte
	for i, is := range []bool{e.Hardlink != "", e.Link != "", e.Rdev != 0, len(e.Xattrs) > 0} {
		if is {
			has |= 1 << i
		}
	}
	b = append(b, has)
	b = binary.AppendUvarint(b, uint64(shared))
	b = appendString(b, e.Path[shared:])
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, uint64(e.Size))
	b = binary.AppendVarint(b, e.Mtime-prev.Mtime)
	b = binary.AppendVarint(b, e.Ctime-e.Mtime)
	b = binary.AppendVarint(b, int64(e.Inode-prev.Inode))
	if has&hasHardlink != 0 {
		b = appendString(b, e.Hardlink)
	}
	if has&hasLink != 0 {
		b = appendString(b, e.Link)
	}
	if has&hasRdev != 0 {
		b = binary.AppendUvarint(b, e.Rdev)
	}
	if has&hasXattrs != 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Xattrs)))
		for _, x := range e.Xattrs {
			b = appendString(appendString(b, x.Name), x.Value)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// ErrList is wrapped by every error of a list that cannot be.
var ErrList = errors.New("invalid list of files")

// DecodeList decodes a whole list and checks it: paths are clean, relative, in order and named once,
// every parent is a directory of the list, hard links point at earlier files, nothing is longer than a
// file system allows.
func DecodeList(b []byte) ([]Entry, error) {
	d := decoder{b: b, dirs: map[string]bool{"": true}, files: map[string]int{}}
	var out []Entry
	var prev Entry
	for len(d.b) > 0 {
		if len(out) == MaxEntries {
			return nil, fmt.Errorf("%w: more than %d names", ErrList, MaxEntries)
		}
		e, err := d.entry(&prev)
		if err != nil {
			return nil, err
		}
		if err := d.check(&e, &prev, len(out)); err != nil {
			return nil, err
		}
		out = append(out, e)
		prev = e
	}
	return out, nil
}

type decoder struct {
	b     []byte
	bad   bool
	dirs  map[string]bool // paths of directories so far
	files map[string]int  // paths of regular files so far
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) string(limit int) string {
	n := d.uint()
	if n > uint64(len(d.b)) || n > uint64(limit) {
		d.bad = true
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) entry(prev *Entry) (Entry, error) {
	has := d.b[0]
	d.b = d.b[1:]
	var e Entry
	shared := d.uint()
	if has >= hasXattrs<<1 || shared > uint64(len(prev.Path)) {
		return e, fmt.Errorf("%w: after %q", ErrList, prev.Path)
	}
	e.Path = prev.Path[:shared] + d.string(maxPath)
	mode, size := d.uint(), d.uint()
	e.Mode, e.Size = uint32(mode), int64(size)
	d.bad = d.bad || mode > 0o177777 || e.Size < 0
	e.Mtime = prev.Mtime + d.int()
	e.Ctime = e.Mtime + d.int()
	e.Inode = prev.Inode + uint64(d.int())
	if has&hasHardlink != 0 {
		e.Hardlink = d.string(maxPath)
	}
	if has&hasLink != 0 {
		e.Link = d.string(maxPath)
	}
	if has&hasRdev != 0 {
		e.Rdev = d.uint()
	}
	if has&hasXattrs != 0 {
		e.Xattrs = d.xattrs()
	}
	if d.bad {
		return e, fmt.Errorf("%w: after %q", ErrList, prev.Path)
	}
	return e, nil
}

func (d *decoder) xattrs() []Xattr {
	n := d.uint()
	if n == 0 || n > maxXattrs/2 {
		d.bad = true
		return nil
	}
	var out []Xattr
	left := maxXattrs
	for range n {
		x := Xattr{d.string(maxComponent), d.string(left)}
		left -= len(x.Name) + len(x.Value)
		if d.bad || left < 0 || !fileattr.Allowed(x.Name, x.Value) || len(out) > 0 && out[len(out)-1].Name >= x.Name {
			d.bad = true
			return nil
		}
		out = append(out, x)
	}
	return out
}

// check holds e against the entries before it, of which it is number i, and notes it.
func (d *decoder) check(e, prev *Entry, i int) error {
	refuse := func(why string) error { return fmt.Errorf("%w: %q: %s", ErrList, e.Path, why) }
	if err := CheckPath(e.Path); err != nil {
		return fmt.Errorf("%w: %w", ErrList, err)
	}
	if i > 0 && ComparePaths(prev.Path, e.Path) >= 0 {
		return refuse("it is out of order")
	}
	if !d.dirs[parent(e.Path)] {
		return refuse("its parent is not a directory")
	}
	typ := e.Mode & ModeType
	if !slices.Contains([]uint32{ModeReg, ModeDir, ModeLink, ModeChar, ModeBlk, ModeFIFO}, typ) {
		return refuse("it is neither a file, a directory, a link nor a device")
	}
	if (e.Link != "") != (typ == ModeLink) || strings.ContainsRune(e.Link, 0) {
		return refuse("a symbolic link and only that has a target")
	}
	if e.Size != 0 && typ != ModeReg || e.Rdev != 0 && typ != ModeChar && typ != ModeBlk {
		return refuse("its size does not go with its type")
	}
	if e.Hardlink != "" {
		if _, ok := d.files[e.Hardlink]; !ok || typ != ModeReg {
			return refuse("it is a hard link to what is not there")
		}
	}
	switch {
	case typ == ModeDir:
		d.dirs[e.Path] = true
	case e.IsReg():
		d.files[e.Path] = i
	}
	return nil
}

// CheckPath says what is wrong with an Entry's path.
func CheckPath(path string) error {
	if path == "" || len(path) > maxPath || strings.ContainsRune(path, 0) {
		return fmt.Errorf("%q is no path", path)
	}
	for c := range strings.SplitSeq(path, "/") {
		if c == "" || c == "." || c == ".." || len(c) > maxComponent {
			return fmt.Errorf("%q is no clean path below a context", path)
		}
	}
	return nil
}

func parent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return ""
}
