package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Types of tar entries (POSIX pax, "ustar Interchange Format"; GNU tar, "Basic Tar Format").
const (
	typeOldFile   = 0
	typeFile      = '0'
	typeLink      = '1'
	typeSymlink   = '2'
	typeChar      = '3'
	typeBlock     = '4'
	typeDir       = '5'
	typeFIFO      = '6'
	typeCont      = '7'
	typePAX       = 'x'
	typePAXGlobal = 'g'
	typeGNUSparse = 'S'
	typeGNUName   = 'L'
	typeGNULink   = 'K'
)

// maxExtended is the most that a header of headers (PAX records, GNU long names) may have, in bytes. It
// is what archive/tar takes, and so Docker.
const maxExtended = 1 << 20

// header is one entry of a tar with all that its extended headers say. Its slices are valid until the
// next one is read.
type header struct {
	offset int64 // in the tar, of the first block that belongs to the entry
	typ    byte  // a type constant, never typeOldFile or one of the extended headers
	name   []byte
	link   []byte
	mode   int64
	uid    int64
	gid    int64
	mtime  int64  // seconds
	nsec   uint32 // below 1e9
	major  int64
	minor  int64
	size   int64 // of the file, holes included
	data   int64 // in the tar, of the content's first byte
	stored int64 // bytes of content in the tar
	sparse bool  // segments is the file's map, and all of it
	segs   []segment
	xattrs []xattr
}

// segment is a part of a sparse file that is there. data is where in the tar.
type segment struct {
	off, size int64
	data      int64
}

// entries reads the headers of a tar, one after the other. It takes what archive/tar takes (so what
// Docker takes), and says where in the tar each content is.
type entries struct {
	src     *source
	budget  *budget // what sparse maps cost is taken from it as they are read
	content int64   // of the last header: bytes not yet passed
	pad     int64   // behind them
	name    []byte
	link    []byte
	pax     []byte
	segs    []segment
	h       header
}

// errTarEnd is returned by next at the tar's end.
var errTarEnd = errors.New("end of tar")

// bad makes the error for an entry that can't be read.
func (e *entries) bad(at int64, format string, args ...any) error {
	return &EntryError{Offset: at, Reason: fmt.Sprintf(format, args...)}
}

func (e *entries) short(at int64) error {
	return &EntryError{Offset: at, Reason: "it ends in the middle of an entry", Err: io.ErrUnexpectedEOF}
}

// next reads the next entry's headers; the content is passed over by the call after.
func (e *entries) next() (*header, error) {
	if err := e.pass(); err != nil {
		return nil, err
	}
	first := e.src.off
	var pax paxHeader
	e.name, e.link = e.name[:0], e.link[:0]
	for {
		at := e.src.off
		block, err := e.block()
		if err != nil {
			return nil, err
		}
		if block == nil {
			if at != first {
				return nil, e.short(first)
			}
			return nil, errTarEnd
		}
		format := formatOf(block)
		if format == formatUnknown {
			return nil, e.bad(at, "there is no valid header (its checksum does not match)")
		}
		switch typ := block[156]; typ {
		case typePAX, typePAXGlobal, typeGNUName, typeGNULink:
			size, ok := parseNumeric(block[124:136])
			if !ok || size < 0 {
				return nil, e.bad(at, "the size of an extended header is not a number")
			}
			if size > maxExtended {
				return nil, e.bad(at, "an extended header has %d bytes, more than 1 MiB", size)
			}
			e.pax, err = e.src.readAll(e.pax[:0], size)
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, e.short(first)
			}
			if err != nil {
				return nil, err
			}
			e.pad = padding(size)
			if err := e.pass(); err != nil {
				return nil, err
			}
			switch typ {
			case typePAX:
				if pax, err = parsePAX(e.pax); err != nil {
					return nil, e.bad(at, "%v", err)
				}
			case typeGNUName:
				e.name = append(e.name[:0], cString(e.pax)...)
			case typeGNULink:
				e.link = append(e.link[:0], cString(e.pax)...)
			case typePAXGlobal:
				// As with Docker, what it says of all entries is not applied. An entry may come after it, or none.
				first = e.src.off
			}
		default:
			return e.entry(first, at, block, format, pax)
		}
	}
}

// entry makes the header of the block at offset at.
func (e *entries) entry(first, at int64, block []byte, format tarFormat, pax paxHeader) (*header, error) {
	h := &e.h
	*h = header{offset: first, segs: e.segs[:0]}
	gnuName, gnuLink := len(e.name), len(e.link)
	if err := h.parse(block, format, e); err != "" {
		return nil, e.bad(at, "%s", err)
	}
	if err := h.merge(pax); err != nil {
		return nil, &EntryError{Path: string(h.name), Offset: first, Reason: err.Error()}
	}
	if gnuName > 0 {
		h.name = e.name[:gnuName]
	}
	if gnuLink > 0 {
		h.link = e.link[:gnuLink]
	}
	if h.typ == typeOldFile {
		h.typ = typeFile
		if bytes.HasSuffix(h.name, []byte("/")) {
			h.typ = typeDir
		}
	}
	h.stored = h.size
	switch h.typ {
	case typeLink, typeSymlink, typeChar, typeBlock, typeDir, typeFIFO:
		h.stored, h.size = 0, 0 // whatever it says: no content follows these
	}
	if h.size < 0 {
		return nil, &EntryError{Path: string(h.name), Offset: first, Reason: "its size is negative"}
	}
	if err := e.sparse(h, block, format, pax); err != nil {
		return nil, err
	}
	h.data = e.src.off
	if h.sparse {
		if err := h.place(); err != nil {
			return nil, err
		}
		e.segs = h.segs
	}
	e.content, e.pad = h.stored, padding(h.stored)
	return h, nil
}

// pass passes over content and padding of the entry before. A tar may end where the padding would be.
func (e *entries) pass() error {
	at, content, pad := e.src.off, e.content, e.pad
	e.content, e.pad = 0, 0
	n, err := e.src.skip(content)
	if err != nil {
		return err
	}
	if n < content {
		return e.short(at)
	}
	_, err = e.src.skip(pad)
	return err
}

// block reads one block; nil at the end: two blocks of zeros, or no more bytes.
func (e *entries) block() ([]byte, error) {
	at := e.src.off
	block, err := e.src.next(blockSize)
	if err != nil || len(block) == 0 {
		return nil, err
	}
	if len(block) < blockSize {
		return nil, e.short(at)
	}
	if !isZero(block) {
		return block, nil
	}
	block, err = e.src.next(blockSize)
	if err != nil || len(block) == 0 {
		return nil, err
	}
	if len(block) < blockSize {
		return nil, e.short(at)
	}
	if !isZero(block) {
		return nil, e.bad(at, "a block of zeros is followed by something else")
	}
	return nil, nil
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// padding is what follows n bytes of content up to the next block.
func padding(n int64) int64 { return -n & (blockSize - 1) }

// tarFormat says which fields of a header block mean what.
type tarFormat int

const (
	formatUnknown tarFormat = iota
	formatV7                // no more than the first 257 bytes
	formatUSTAR             // POSIX: owner names, devices, prefix of 155 bytes
	formatSTAR              // as USTAR, but prefix of 131 bytes
	formatGNU               // as USTAR, but no prefix
)

func formatOf(block []byte) tarFormat {
	want, ok := parseOctal(block[148:156])
	if !ok {
		return formatUnknown
	}
	var unsigned, signed int64
	for i, c := range block {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	if want != unsigned && want != signed {
		return formatUnknown
	}
	magic, version, trailer := string(block[257:263]), string(block[263:265]), string(block[508:512])
	switch {
	case magic == "ustar\x00" && trailer == "tar\x00":
		return formatSTAR
	case magic == "ustar\x00":
		return formatUSTAR
	case magic == "ustar " && version == " \x00":
		return formatGNU
	}
	return formatV7
}

// parse reads the fields of a header block and says what is wrong with them, or "". Names are appended
// to those that e holds (GNU's long ones).
func (h *header) parse(block []byte, format tarFormat, e *entries) string {
	h.typ = block[156]
	wrong := ""
	number := func(what string, from, to int) int64 {
		n, ok := parseNumeric(block[from:to])
		if !ok && wrong == "" {
			wrong = what + " of an entry is not a number"
		}
		return n
	}
	h.mode = number("the mode", 100, 108)
	h.uid = number("the owner", 108, 116)
	h.gid = number("the group", 116, 124)
	h.size = number("the size", 124, 136)
	h.mtime = number("the time", 136, 148)
	var prefix []byte
	if format != formatV7 {
		h.major = number("the device number", 329, 337)
		h.minor = number("the device number", 337, 345)
	}
	switch format {
	case formatUSTAR:
		prefix = cString(block[345:500])
	case formatSTAR:
		prefix = cString(block[345:476])
	case formatGNU:
		prefix = oldGoPrefix(block)
	}
	at := len(e.name)
	if len(prefix) > 0 {
		e.name = append(append(e.name, prefix...), '/')
	}
	e.name = append(e.name, cString(block[:100])...)
	h.name = e.name[at:]
	at = len(e.link)
	e.link = append(e.link, cString(block[157:257])...)
	h.link = e.link[at:]
	return wrong
}

// oldGoPrefix finds the prefix that Go before 1.8 wrote, by mistake, where GNU's format has times:
// images of that age exist.
func oldGoPrefix(block []byte) []byte {
	for _, field := range [][]byte{block[345:357], block[357:369]} {
		if field[0] == 0 {
			continue
		}
		if _, ok := parseNumeric(field); !ok {
			prefix := cString(block[345:500])
			for _, c := range prefix {
				if c >= 0x80 || c == 0 {
					return nil
				}
			}
			return prefix
		}
	}
	return nil
}

func cString(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

// parseNumeric reads a number in octal digits or, with the first bit set, in base 256 (two's
// complement).
func parseNumeric(b []byte) (int64, bool) {
	if b[0]&0x80 == 0 {
		return parseOctal(b)
	}
	invert := byte(0)
	if b[0]&0x40 != 0 {
		invert = 0xff
	}
	var x uint64
	for i, c := range b {
		c ^= invert
		if i == 0 {
			c &= 0x7f
		}
		if x>>56 > 0 {
			return 0, false
		}
		x = x<<8 | uint64(c)
	}
	if x>>63 > 0 {
		return 0, false
	}
	if invert == 0xff {
		return ^int64(x), true
	}
	return int64(x), true
}

// parseOctal reads octal digits between spaces and NULs; an empty field is 0.
func parseOctal(b []byte) (int64, bool) {
	b = cString(bytes.Trim(b, " \x00"))
	var x int64
	for _, c := range b {
		if c < '0' || c > '7' || x>>60 > 0 {
			return 0, false
		}
		x = x<<3 | int64(c-'0')
	}
	return x, true
}

// paxHeader is what the PAX records of an entry say, as far as we listen.
type paxHeader struct {
	path, linkpath             string
	size, uid, gid, mtime      string
	sparseMajor, sparseMinor   string
	sparseName                 string
	sparseSize, sparseRealSize string
	sparseNumBlocks, sparseMap string
	xattrs                     []xattr
}

const (
	paxXattr  = "SCHILY.xattr."
	paxSparse = "GNU.sparse."
)

// parsePAX reads PAX records: "LENGTH KEY=VALUE\n", where LENGTH counts all of it (POSIX pax,
// "pax Header Block").
func parsePAX(b []byte) (paxHeader, error) {
	var p paxHeader
	var offsets []string // GNU sparse 0.0: the map is in repeated records
	for len(b) > 0 {
		key, value, rest, ok := paxRecord(b)
		if !ok {
			return p, errors.New("a PAX record is malformed")
		}
		b = rest
		switch key {
		case "path":
			p.path = value
		case "linkpath":
			p.linkpath = value
		case "size":
			p.size = value
		case "uid":
			p.uid = value
		case "gid":
			p.gid = value
		case "mtime":
			p.mtime = value
		case paxSparse + "major":
			p.sparseMajor = value
		case paxSparse + "minor":
			p.sparseMinor = value
		case paxSparse + "name":
			p.sparseName = value
		case paxSparse + "size":
			p.sparseSize = value
		case paxSparse + "realsize":
			p.sparseRealSize = value
		case paxSparse + "numblocks":
			p.sparseNumBlocks = value
		case paxSparse + "map":
			p.sparseMap = value
		case paxSparse + "offset", paxSparse + "numbytes":
			if (len(offsets)%2 == 0) != (key == paxSparse+"offset") || strings.Contains(value, ",") {
				return p, errors.New("the map of a sparse file is malformed")
			}
			offsets = append(offsets, value)
		default:
			if name, ok := strings.CutPrefix(key, paxXattr); ok {
				p.xattrs = append(p.xattrs, xattr{name, value})
			}
		}
	}
	if len(offsets) > 0 {
		p.sparseMap = strings.Join(offsets, ",")
	}
	return p, nil
}

func paxRecord(b []byte) (key, value string, rest []byte, ok bool) {
	digits, _, found := bytes.Cut(b, []byte(" "))
	if !found || len(digits) == 0 || len(digits) > 10 {
		return "", "", nil, false
	}
	n, err := strconv.ParseUint(string(digits), 10, 31)
	if err != nil || n < 5 || int64(n) > int64(len(b)) || int(n) < len(digits)+3 || b[n-1] != '\n' {
		return "", "", nil, false
	}
	k, v, found := bytes.Cut(b[len(digits)+1:n-1], []byte("="))
	if !found || len(k) == 0 || bytes.IndexByte(k, 0) >= 0 {
		return "", "", nil, false
	}
	key = string(k)
	switch key {
	case "path", "linkpath", "uname", "gname":
		if bytes.IndexByte(v, 0) >= 0 {
			return "", "", nil, false
		}
	}
	return key, string(v), b[n:], true
}

// merge puts what the PAX records say in place of what the header block says. An empty value keeps the
// block's.
func (h *header) merge(p paxHeader) error {
	if p.path != "" {
		h.name = []byte(p.path)
	}
	if p.linkpath != "" {
		h.link = []byte(p.linkpath)
	}
	for _, f := range []struct {
		value string
		to    *int64
		what  string
	}{{p.size, &h.size, "size"}, {p.uid, &h.uid, "owner"}, {p.gid, &h.gid, "group"}} {
		if f.value == "" {
			continue
		}
		n, err := strconv.ParseInt(f.value, 10, 64)
		if err != nil {
			return fmt.Errorf("its %s is not a number", f.what)
		}
		*f.to = n
	}
	if p.mtime != "" {
		sec, nsec, ok := parsePAXTime(p.mtime)
		if !ok {
			return errors.New("its time is not a number")
		}
		h.mtime, h.nsec = sec, nsec
	}
	h.xattrs = p.xattrs
	return nil
}

// parsePAXTime reads seconds with a fraction; digits below nanoseconds are cut off.
func parsePAXTime(s string) (sec int64, nsec uint32, ok bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	negative := strings.HasPrefix(whole, "-")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, 0, false
	}
	scale := uint32(100_000_000)
	for _, c := range []byte(fraction) {
		if c < '0' || c > '9' {
			return 0, 0, false
		}
		nsec += uint32(c-'0') * scale
		scale /= 10
	}
	if !negative {
		return sec, nsec, true
	}
	if nsec == 0 {
		return sec, 0, true
	}
	if sec == -1<<63 {
		return 0, 0, false
	}
	return sec - 1, 1_000_000_000 - nsec, true
}
