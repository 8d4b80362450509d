package erofs

import (
	"bytes"
	"strconv"
	"strings"
)

// Where GNU's old format keeps a sparse file's map (GNU tar, "Storing Sparse Files: Old GNU Format"):
// four entries and the file's size in the header block, and as often as need be a block of 21 more.
const (
	oldMapAt      = 386
	oldMapEntries = 4
	oldExtendedAt = 482
	oldSizeAt     = 483
	extEntries    = 21
	extExtendedAt = 504
	oldEntrySize  = 24
)

// segmentCost is what one segment of a map costs in memory, bytes.
const segmentCost = 24

// sparse reads the map of h, where it has one, and leaves in h.stored what of the content is yet to come.
// The segments' data is set by place.
func (e *entries) sparse(h *header, block []byte, format tarFormat, pax paxHeader) error {
	if h.typ == typeGNUSparse {
		if format != formatGNU {
			return e.badMap(h, "is of a type that its header's format does not have")
		}
		h.typ = typeFile
		return e.oldMap(h, block)
	}
	version := pax.sparseMajor + "." + pax.sparseMinor
	switch {
	case version == "0.0", version == "0.1", version == "1.0":
	case version == "." && pax.sparseMap != "":
		version = "0.0" // which did not say so
	case version == ".":
		return nil
	default:
		return e.badMap(h, "is a sparse file of a version that is not known")
	}
	if h.typ != typeFile {
		return e.badMap(h, "has the map of a sparse file and is none")
	}
	h.sparse = true
	if pax.sparseName != "" {
		h.name = []byte(pax.sparseName)
	}
	size := pax.sparseSize
	if size == "" {
		size = pax.sparseRealSize
	}
	if size != "" {
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			return e.badMap(h, "has a size that is not a number")
		}
		h.size = n
	}
	if version == "1.0" {
		return e.contentMap(h)
	}
	return e.recordMap(h, pax)
}

func (e *entries) badMap(h *header, reason string) error {
	return &EntryError{Path: string(h.name), Offset: h.offset, Reason: "it " + reason}
}

// segment appends one to the map.
func (e *entries) segment(h *header, off, size int64) error {
	if err := e.budget.take(segmentCost, h.name); err != nil {
		return err
	}
	h.segs = append(h.segs, segment{off: off, size: size})
	return nil
}

// oldMap reads a map of GNU's old format, blocks behind the header included.
func (e *entries) oldMap(h *header, block []byte) error {
	h.sparse = true
	size, ok := parseNumeric(block[oldSizeAt : oldSizeAt+12])
	if !ok || size < 0 {
		return e.badMap(h, "has a size that is not a number")
	}
	h.size = size
	part, n := block[oldMapAt:], oldMapEntries
	more := block[oldExtendedAt] != 0
	for {
		for i := range n {
			b := part[i*oldEntrySize:]
			if b[0] == 0 {
				break
			}
			off, ok1 := parseNumeric(b[:12])
			size, ok2 := parseNumeric(b[12:24])
			if !ok1 || !ok2 {
				return e.badMap(h, "has a map of a sparse file that is malformed")
			}
			if err := e.segment(h, off, size); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		var err error
		part, err = e.src.next(blockSize)
		if err != nil {
			return err
		}
		if len(part) < blockSize {
			return e.short(h.offset)
		}
		n, more = extEntries, part[extExtendedAt] != 0
	}
}

// recordMap reads a map of PAX versions 0.0 and 0.1: numbers with commas between them.
func (e *entries) recordMap(h *header, pax paxHeader) error {
	wrong := "has a map of a sparse file that is malformed"
	count, err := strconv.ParseInt(pax.sparseNumBlocks, 10, 64)
	if err != nil || count < 0 {
		return e.badMap(h, wrong)
	}
	rest := pax.sparseMap
	for rest != "" {
		var off, size string
		off, rest, _ = strings.Cut(rest, ",")
		size, rest, _ = strings.Cut(rest, ",")
		o, err1 := strconv.ParseInt(off, 10, 64)
		s, err2 := strconv.ParseInt(size, 10, 64)
		if err1 != nil || err2 != nil {
			return e.badMap(h, wrong)
		}
		if err := e.segment(h, o, s); err != nil {
			return err
		}
	}
	if int64(len(h.segs)) != count {
		return e.badMap(h, wrong)
	}
	return nil
}

// contentMap reads a map of PAX version 1.0: the content begins with lines of one number each, how many
// segments there are and then offset and size of each, filled up to a whole block.
func (e *entries) contentMap(h *header) error {
	wrong := "has a map of a sparse file that is malformed"
	var rest []byte
	var line [20]byte
	number := func() (int64, error) {
		n := 0
		for {
			if len(rest) == 0 {
				if h.stored < blockSize {
					return 0, e.badMap(h, wrong)
				}
				var err error
				if rest, err = e.src.next(blockSize); err != nil {
					return 0, err
				}
				if len(rest) < blockSize {
					return 0, e.short(h.offset)
				}
				h.stored -= blockSize
			}
			i := bytes.IndexByte(rest, '\n')
			part := rest
			if i >= 0 {
				part = rest[:i]
			}
			if n+len(part) > len(line) {
				return 0, e.badMap(h, wrong)
			}
			n += copy(line[n:], part)
			rest = rest[len(part):]
			if i >= 0 {
				rest = rest[1:]
				break
			}
		}
		x, err := strconv.ParseInt(string(line[:n]), 10, 64)
		if err != nil || x < 0 {
			return 0, e.badMap(h, wrong)
		}
		return x, nil
	}
	count, err := number()
	if err != nil {
		return err
	}
	for range count {
		off, err := number()
		if err != nil {
			return err
		}
		size, err := number()
		if err != nil {
			return err
		}
		if err := e.segment(h, off, size); err != nil {
			return err
		}
	}
	return nil
}

// place checks the map and says for each segment where in the tar it is: one behind the other. Empty
// segments are dropped (the last one only tells the size), neighbours become one.
func (h *header) place() error {
	wrong := func(reason string) error {
		return &EntryError{Path: string(h.name), Offset: h.offset, Reason: reason}
	}
	at, end := h.data, int64(0)
	kept := h.segs[:0]
	for _, s := range h.segs {
		if s.off < end || s.size < 0 || s.off > h.size || s.size > h.size-s.off {
			return wrong("the map of a sparse file has parts that overlap, or are outside of the file")
		}
		end = s.off + s.size
		s.data = at
		at += s.size
		if at-h.data > h.stored {
			return wrong("the map of a sparse file has more bytes than the tar")
		}
		if s.size == 0 {
			continue
		}
		if n := len(kept); n > 0 && kept[n-1].off+kept[n-1].size == s.off {
			kept[n-1].size += s.size
			continue
		}
		kept = append(kept, s)
	}
	h.segs = kept
	if at-h.data != h.stored {
		return wrong("the map of a sparse file has fewer bytes than the tar")
	}
	return nil
}
