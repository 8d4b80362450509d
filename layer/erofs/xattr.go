package erofs

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-engine/berth/internal/fileattr"
)

// xattr is an extended attribute, by its whole name.
type xattr struct {
	name, value string
}

// opaque is how overlayfs marks a directory that hides what is below it (overlayfs.rst, "whiteouts and
// opaque directories").
var opaque = xattr{"trusted.overlay.opaque", "y"}

// prefixes are the beginnings of names that the format has numbers for (erofs_fs.h,
// EROFS_XATTR_INDEX_*). The ACLs' are whole names.
var prefixes = []struct {
	name  string
	index byte
}{
	{"user.", 1},
	{aclAccess, 2},
	{aclDefault, 3},
	{"trusted.", 4},
	{"security.", 6},
}

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// split returns the number of a name's beginning, and the rest of the name.
func (x xattr) split() (index byte, rest string) {
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(x.name, p.name); ok {
			return p.index, rest
		}
	}
	panic("layer/erofs: an attribute without a number got past the rules: " + x.name)
}

// admit returns the attributes of an entry that come into a layer, sorted by name, of equal names the
// last. It drops what would speak to overlayfs (a planted redirect is followed), what this host's
// security modules would read, and what the kernel has no place for on a file of this type; what it has
// a place for and would refuse (EINVAL) is an error, as with Docker.
func admit(in []xattr, typ uint16) ([]xattr, error) {
	var out []xattr
	for _, x := range in {
		keep, err := x.admit(typ)
		if err != nil {
			return nil, err
		}
		if !keep {
			continue
		}
		if i := slices.IndexFunc(out, func(o xattr) bool { return o.name == x.name }); i >= 0 {
			out[i] = x
			continue
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b xattr) int { return cmp.Compare(a.name, b.name) })
	return out, nil
}

func (x xattr) admit(typ uint16) (bool, error) {
	plain := typ == modeFile || typ == modeDir
	switch {
	case strings.HasPrefix(x.name, "trusted.overlay."), strings.HasPrefix(x.name, "user.overlay."):
		return false, nil
	case strings.HasPrefix(x.name, "user."):
		if !plain {
			return false, nil
		}
	case strings.HasPrefix(x.name, "trusted."):
	case x.name == fileattr.Capability:
		if typ != modeFile {
			return false, nil
		}
		if !fileattr.IsCapability(x.value) {
			return false, fmt.Errorf("its extended attribute %s is malformed", x.name)
		}
	case x.name == aclAccess, x.name == aclDefault:
		if typ == modeSymlink || (x.name == aclDefault && typ != modeDir) {
			return false, nil
		}
		if len(x.value) == 4 && x.value == "\x02\x00\x00\x00" {
			return false, nil // no entries: the same as none
		}
		if !isACL(x.value) {
			return false, fmt.Errorf("its extended attribute %s is malformed", x.name)
		}
		return true, nil
	default:
		return false, nil
	}
	if strings.HasSuffix(x.name, ".") && strings.Count(x.name, ".") == 1 {
		return false, fmt.Errorf("the name of its extended attribute %q is empty", x.name)
	}
	if len(x.name) > 255 || strings.IndexByte(x.name, 0) >= 0 {
		return false, fmt.Errorf("the name of its extended attribute %s is longer than 255 bytes", quote(x.name))
	}
	if len(x.value) >= maxXattrs {
		return false, fmt.Errorf("its extended attribute %s has %d bytes, more than 65535", x.name, len(x.value))
	}
	return true, nil
}

// isACL says whether v is what the kernel takes as an ACL (posix_acl_xattr.h: version 2, then entries of
// tag, permissions and id; posix_acl_valid: sorted by tag, the three base entries exactly once, a mask
// where anybody is named, nobody named twice in a row).
func isACL(v string) bool {
	const (
		version                                     = 2
		userObj, user, groupObj, group, mask, other = 1, 2, 4, 8, 16, 32
	)
	if len(v) < 4 || (len(v)-4)%8 != 0 || binary.LittleEndian.Uint32([]byte(v)) != version {
		return false
	}
	seen, last := 0, 0
	for b := []byte(v[4:]); len(b) > 0; b = b[8:] {
		tag := int(binary.LittleEndian.Uint16(b))
		perm := binary.LittleEndian.Uint16(b[2:])
		id := binary.LittleEndian.Uint32(b[4:])
		if perm > 7 || tag < last {
			return false
		}
		switch tag {
		case user, group:
			if id == 1<<32-1 {
				return false
			}
		case userObj, groupObj, mask, other:
			if seen&tag != 0 {
				return false
			}
		default:
			return false
		}
		seen, last = seen|tag, tag
	}
	base := userObj | groupObj | other
	if seen&base != base {
		return false
	}
	return seen&(user|group) == 0 || seen&mask != 0
}

// Sizes of the format's xattr structures (erofs_fs.h), bytes.
const (
	xattrHeader = 12 // erofs_xattr_ibody_header
	xattrEntry  = 4  // erofs_xattr_entry
	maxShared   = 255
)

// entrySize is the number of bytes of x in the file.
func (x xattr) entrySize() int {
	_, rest := x.split()
	return align(xattrEntry+len(rest)+len(x.value), 4)
}

// appendEntry appends x as the file has it.
func (x xattr) appendEntry(b []byte) []byte {
	index, rest := x.split()
	start := len(b)
	b = append(b, byte(len(rest)), index)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(x.value)))
	b = append(append(b, rest...), x.value...)
	for (len(b)-start)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// xattrTable holds the attributes of all inodes of a layer, each set once. Set 0 is the empty one.
type xattrTable struct {
	xattrs []xattr
	ids    map[xattr]uint32
	sets   [][]uint32        // of numbers of xattrs
	setIDs map[string]uint32 // by the set's bytes

	// Set by share.
	shared map[uint32]uint32 // number of an xattr → where in the shared area, in units of 4 bytes
	area   []byte
}

func newXattrTable() *xattrTable {
	return &xattrTable{
		ids:    map[xattr]uint32{},
		sets:   [][]uint32{nil},
		setIDs: map[string]uint32{"": 0},
	}
}

// add returns the number of the set of attributes; cost is what it takes of the budget, bytes.
func (t *xattrTable) add(set []xattr) (id uint32, cost int64) {
	if len(set) == 0 {
		return 0, 0
	}
	numbers := make([]uint32, len(set))
	key := make([]byte, 0, 4*len(set))
	for i, x := range set {
		n, ok := t.ids[x]
		if !ok {
			n = uint32(len(t.xattrs))
			t.xattrs = append(t.xattrs, x)
			t.ids[x] = n
			cost += int64(len(x.name)+len(x.value)) + 64
		}
		numbers[i] = n
		key = binary.LittleEndian.AppendUint32(key, n)
	}
	id, ok := t.setIDs[string(key)]
	if !ok {
		id = uint32(len(t.sets))
		t.sets = append(t.sets, numbers)
		t.setIDs[string(key)] = id
		cost += int64(len(key)) + 64
	}
	return id, cost
}

// get returns the attributes of a set.
func (t *xattrTable) get(id uint32) []xattr {
	set := make([]xattr, len(t.sets[id]))
	for i, n := range t.sets[id] {
		set[i] = t.xattrs[n]
	}
	return set
}

// share decides which attributes are kept once, beside the inodes: those of which more inodes than one
// would otherwise have a copy that is larger than a reference. uses says how many inodes have a set.
func (t *xattrTable) share(uses []uint32) {
	count := make([]int64, len(t.xattrs))
	for id, n := range uses {
		for _, x := range t.sets[id] {
			count[x] += int64(n)
		}
	}
	t.shared = map[uint32]uint32{}
	for i, x := range t.xattrs {
		size := int64(x.entrySize())
		if count[i] < 2 || size+4*count[i] >= size*count[i] {
			continue
		}
		t.shared[uint32(i)] = uint32(len(t.area) / 4)
		t.area = x.appendEntry(t.area)
	}
}

// size is the number of bytes of a set behind an inode.
func (t *xattrTable) size(id uint32) int {
	if id == 0 {
		return 0
	}
	size, shared := xattrHeader, 0
	for _, n := range t.sets[id] {
		if _, ok := t.shared[n]; ok && shared < maxShared {
			size += 4
			shared++
			continue
		}
		size += t.xattrs[n].entrySize()
	}
	return size
}

// appendSet appends a set as it stands behind an inode: header, references, entries.
func (t *xattrTable) appendSet(b []byte, id uint32) []byte {
	if id == 0 {
		return b
	}
	start := len(b)
	b = append(b, make([]byte, xattrHeader)...)
	var own []uint32
	shared := 0
	for _, n := range t.sets[id] {
		if at, ok := t.shared[n]; ok && shared < maxShared {
			b = binary.LittleEndian.AppendUint32(b, at)
			shared++
			continue
		}
		own = append(own, n)
	}
	b[start+4] = byte(shared)
	for _, n := range own {
		b = t.xattrs[n].appendEntry(b)
	}
	return b
}

func align(n, to int) int { return (n + to - 1) &^ (to - 1) }
