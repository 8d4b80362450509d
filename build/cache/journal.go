package cache

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"time"

	"github.com/opencontainers/go-digest"
)

// The journal is a header and lines. A line is: length of the payload (4 bytes, little endian), crc32c
// of the payload (4 bytes), payload. A payload is a byte that says what it is, the id of a record, and
// fields: varints, and strings with their length before them. A line changes or adds to what came before
// of the same record.
const journalMagic = "berth build cache 1\n"

const lineHeader = 8

// maxLine is the longest payload in bytes; a longer length is damage.
const maxLine = 16 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type lineKind byte

const (
	lineRecord    lineKind = 1 // created, used, description
	lineKey       lineKind = 2 // key
	lineOutput    lineKind = 3 // index, number of layers, of each: diffID, created, description
	lineDigest    lineKind = 4 // selection, digest
	lineAttribute lineKind = 5 // name, value
	lineUsed      lineKind = 6 // used
	lineForget    lineKind = 7 // nothing: the record is no more
)

func appendLine(b []byte, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

func begin(kind lineKind, id ID) []byte { return append([]byte{byte(kind)}, id[:]...) }

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, math.MinInt64)
	}
	return binary.AppendVarint(b, t.UnixNano())
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func encodeRecord(r *Record) []byte {
	return appendString(appendTime(appendTime(begin(lineRecord, r.ID), r.Created), r.Used), r.Description)
}

func encodeKey(id ID, k Key) []byte { return append(begin(lineKey, id), k[:]...) }

func encodeDigest(id ID, sel, dgst Key) []byte {
	return append(append(begin(lineDigest, id), sel[:]...), dgst[:]...)
}

func encodeAttribute(id ID, name, value string) []byte {
	return appendString(appendString(begin(lineAttribute, id), name), value)
}

func encodeUsed(id ID, t time.Time) []byte { return appendTime(begin(lineUsed, id), t) }

func encodeOutput(id ID, index int, layers []Layer) []byte {
	b := binary.AppendUvarint(begin(lineOutput, id), uint64(index))
	b = binary.AppendUvarint(b, uint64(len(layers)))
	for _, l := range layers {
		b = append(b, rawDigest(l.DiffID)...)
		b = appendString(appendTime(b, l.Created), l.Description)
	}
	return b
}

// encodeAll is a whole record.
func encodeAll(b []byte, r *Record) []byte {
	b = appendLine(b, encodeRecord(r))
	for _, k := range r.Keys {
		b = appendLine(b, encodeKey(r.ID, k))
	}
	for i, layers := range r.Outputs {
		b = appendLine(b, encodeOutput(r.ID, i, layers))
	}
	for sel, dgst := range r.Digests {
		b = appendLine(b, encodeDigest(r.ID, sel, dgst))
	}
	for name, value := range r.Attributes {
		b = appendLine(b, encodeAttribute(r.ID, name, value))
	}
	return b
}

// rawDigest is the 32 bytes of a sha256 digest; zeros for what is none.
func rawDigest(d digest.Digest) []byte {
	out := make([]byte, 32)
	hex := d.Encoded()
	for i := range out {
		if 2*i+1 < len(hex) {
			out[i] = nibble(hex[2*i])<<4 | nibble(hex[2*i+1])
		}
	}
	return out
}

func nibble(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

var errDamaged = errors.New("damaged line")

type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad = true
		return make([]byte, max(0, min(n, 64)))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) key() (k Key) { copy(k[:], r.bytes(len(k))); return k }

func (r *reader) uint() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > math.MaxInt32 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *reader) time() time.Time {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad = true
		return time.Time{}
	}
	r.b = r.b[n:]
	if v == math.MinInt64 {
		return time.Time{}
	}
	return time.Unix(0, v).UTC()
}

func (r *reader) string() string {
	n := r.uint()
	if n > len(r.b) {
		r.bad = true
		return ""
	}
	return string(r.bytes(n))
}

func (r *reader) layers() []Layer {
	n := r.uint()
	if n > len(r.b)/34 {
		r.bad = true
		return nil
	}
	if n == 0 {
		return nil
	}
	out := make([]Layer, n)
	for i := range out {
		out[i].DiffID = digest.NewDigestFromBytes(digest.SHA256, r.bytes(32))
		out[i].Created = r.time()
		out[i].Description = r.string()
	}
	return out
}

// apply applies a line's payload to records. A line of a record that is not there is dead, and no error.
func apply(records map[ID]*Record, payload []byte) error {
	r := &reader{b: payload}
	kind := lineKind(r.bytes(1)[0])
	var id ID
	copy(id[:], r.bytes(len(id)))
	rec := records[id]
	if kind == lineRecord {
		rec = &Record{ID: id, Outputs: map[int][]Layer{}, Digests: map[Key]Key{}, Attributes: map[string]string{}}
		rec.Created, rec.Used, rec.Description = r.time(), r.time(), r.string()
	}
	if r.bad || rec == nil {
		return damagedIf(r.bad)
	}
	var change func()
	switch kind {
	case lineRecord:
		change = func() { records[id] = rec }
	case lineKey:
		k := r.key()
		change = func() { rec.addKey(k) }
	case lineOutput:
		index, layers := r.uint(), r.layers()
		change = func() { rec.Outputs[index] = layers }
	case lineDigest:
		sel, dgst := r.key(), r.key()
		change = func() { rec.Digests[sel] = dgst }
	case lineAttribute:
		name, value := r.string(), r.string()
		change = func() { rec.Attributes[name] = value }
	case lineUsed:
		t := r.time()
		change = func() { rec.Used = t }
	case lineForget:
		change = func() { delete(records, id) }
	default:
		return errDamaged
	}
	if r.bad || len(r.b) > 0 {
		return errDamaged
	}
	change()
	return nil
}

func damagedIf(bad bool) error {
	if bad {
		return errDamaged
	}
	return nil
}

func (r *Record) addKey(k Key) bool {
	for _, have := range r.Keys {
		if have == k {
			return false
		}
	}
	r.Keys = append(r.Keys, k)
	return true
}

// decode reads a journal up to the first damaged line. good is how many bytes are whole, lines how many
// lines these are.
func decode(b []byte) (records map[ID]*Record, good, lines int) {
	records = map[ID]*Record{}
	if len(b) < len(journalMagic) || string(b[:len(journalMagic)]) != journalMagic {
		return records, 0, 0
	}
	good = len(journalMagic)
	for len(b)-good >= lineHeader {
		head := b[good:]
		n := binary.LittleEndian.Uint32(head)
		if n == 0 || n > maxLine || int(n) > len(head)-lineHeader {
			break
		}
		payload := head[lineHeader : lineHeader+int(n)]
		if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(head[4:]) || apply(records, payload) != nil {
			break
		}
		good += lineHeader + int(n)
		lines++
	}
	return records, good, lines
}
