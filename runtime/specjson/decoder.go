package specjson

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Decoder reads one JSON document. The first error sticks: from then on every method returns a zero value, and loops
// over More end.
type Decoder struct {
	in    []byte
	pos   int
	first bool // the array or object that was begun last has had no element yet
	depth int
	err   error
}

// maxDepth is how deep a document may be nested, as in encoding/json.
const maxDepth = 10000

// NewDecoder returns a decoder of the document.
func NewDecoder(document []byte) *Decoder { return &Decoder{in: document} }

// End returns the first error; also one if anything follows the document.
func (d *Decoder) End() error {
	if d.space(); d.err == nil && d.pos < len(d.in) {
		d.fail("something follows the document")
	}
	return d.err
}

func (d *Decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("JSON, byte %d: %s", d.pos, what)
		d.pos = len(d.in)
	}
}

// Fail is the document's error where a value is none that its user can take.
func (d *Decoder) Fail(what string) { d.fail(what) }

func (d *Decoder) space() {
	for d.pos < len(d.in) {
		switch d.in[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

// peek returns the next byte that is no space, 0 at the end.
func (d *Decoder) peek() byte {
	d.space()
	if d.pos < len(d.in) {
		return d.in[d.pos]
	}
	return 0
}

// Null takes a null, if that is what comes.
func (d *Decoder) Null() bool {
	return d.peek() == 'n' && d.literal("null")
}

func (d *Decoder) literal(word string) bool {
	if !bytes.HasPrefix(d.in[d.pos:], []byte(word)) {
		d.fail("expected " + word)
		return false
	}
	d.pos += len(word)
	return true
}

// Object begins an object: `for d.Object(); d.More('}'); { switch d.Key() { … } }`. A null is an empty object.
func (d *Decoder) Object() { d.begin('{') }

// Array begins an array: `for d.Array(); d.More(']'); { … }`.
func (d *Decoder) Array() { d.begin('[') }

func (d *Decoder) begin(open byte) {
	if d.peek() != open {
		d.fail("expected " + string(open))
		return
	}
	if d.depth++; d.depth > maxDepth {
		d.fail("nested too deeply")
		return
	}
	d.pos++
	d.first = true
}

// More tells whether another element follows, and takes what is before it; else it takes the closing bracket.
func (d *Decoder) More(end byte) bool {
	if d.err != nil {
		return false
	}
	c := d.peek()
	switch {
	case c == end:
		d.pos++
		d.depth--
		d.first = false
		return false
	case d.first:
		d.first = false
		return true
	case c == ',':
		d.pos++
		if d.peek() == end {
			d.fail("expected another element")
			return false
		}
		return true
	}
	d.fail("expected , or " + string(end))
	return false
}

// Key takes an element's key and the colon.
func (d *Decoder) Key() string {
	k := d.String()
	if d.peek() != ':' {
		d.fail("expected :")
		return ""
	}
	d.pos++
	return k
}

// Bool takes a truth value.
func (d *Decoder) Bool() bool {
	switch d.peek() {
	case 't':
		return d.literal("true")
	case 'f':
		d.literal("false")
		return false
	}
	d.keep("true or false")
	return false
}

// keep takes a null, which leaves a value as it was.
func (d *Decoder) keep(expected string) {
	if !d.Null() {
		d.fail("expected " + expected)
	}
}

// number takes a number's text.
func (d *Decoder) number() string {
	d.space()
	start := d.pos
	digits := func() bool {
		from := d.pos
		for d.pos < len(d.in) && '0' <= d.in[d.pos] && d.in[d.pos] <= '9' {
			d.pos++
		}
		return d.pos > from
	}
	at := func(set string) bool {
		if d.pos < len(d.in) && bytes.IndexByte([]byte(set), d.in[d.pos]) >= 0 {
			d.pos++
			return true
		}
		return false
	}
	at("-")
	ok := true
	if !at("0") {
		ok = digits()
	}
	if ok && at(".") {
		ok = digits()
	}
	if ok && at("eE") {
		at("+-")
		ok = digits()
	}
	if !ok {
		d.pos = start
		d.fail("expected a number")
		return "0"
	}
	return string(d.in[start:d.pos])
}

// Int takes a whole number of at most this many bits.
func (d *Decoder) Int(bits int) int64 {
	if d.Null() || d.err != nil {
		return 0
	}
	text := d.number()
	n, err := strconv.ParseInt(text, 10, bits)
	if err != nil {
		d.fail(text + " is no whole number of " + strconv.Itoa(bits) + " bits")
	}
	return n
}

// Uint takes a whole number ≥ 0 of at most this many bits.
func (d *Decoder) Uint(bits int) uint64 {
	if d.Null() || d.err != nil {
		return 0
	}
	text := d.number()
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		d.fail(text + " is no whole number of " + strconv.Itoa(bits) + " bits, or less than 0")
	}
	return n
}

// Bytes takes bytes, which JSON has in base64.
func (d *Decoder) Bytes() []byte {
	if d.Null() || d.err != nil {
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(d.String())
	if err != nil {
		d.fail(err.Error())
	}
	return b
}

// String takes a string.
func (d *Decoder) String() string {
	if d.peek() != '"' {
		d.keep("a string")
		return ""
	}
	d.pos++
	start := d.pos
	for d.pos < len(d.in) {
		switch c := d.in[d.pos]; {
		case c == '"':
			d.pos++
			return string(d.in[start : d.pos-1])
		case c == '\\' || c >= utf8.RuneSelf:
			return d.escaped(start)
		case c < ' ':
			d.fail("a control character in a string")
			return ""
		}
		d.pos++
	}
	d.fail("a string without end")
	return ""
}

// escaped takes the rest of a string that began at start and is not plain ASCII.
func (d *Decoder) escaped(start int) string {
	b := append([]byte(nil), d.in[start:d.pos]...)
	for d.pos < len(d.in) {
		c := d.in[d.pos]
		switch {
		case c == '"':
			d.pos++
			return string(b)
		case c == '\\':
			d.pos++
			b = d.escape(b)
		case c < ' ':
			d.fail("a control character in a string")
			return ""
		default:
			r, n := utf8.DecodeRune(d.in[d.pos:]) // what is no UTF-8 becomes U+FFFD, as in encoding/json
			b = utf8.AppendRune(b, r)
			d.pos += n
		}
	}
	d.fail("a string without end")
	return ""
}

func (d *Decoder) escape(b []byte) []byte {
	if d.pos >= len(d.in) {
		return b
	}
	c := d.in[d.pos]
	d.pos++
	switch c {
	case '"', '\\', '/':
		return append(b, c)
	case 'b':
		return append(b, '\b')
	case 'f':
		return append(b, '\f')
	case 'n':
		return append(b, '\n')
	case 'r':
		return append(b, '\r')
	case 't':
		return append(b, '\t')
	case 'u':
		r, ok := d.hex4(d.pos)
		if ok {
			d.pos += 4
			if utf16.IsSurrogate(r) {
				r = d.second(r)
			}
			return utf8.AppendRune(b, r)
		}
	}
	d.fail("an unknown escape")
	return b
}

// second takes the other half of a surrogate pair, if it comes.
func (d *Decoder) second(r rune) rune {
	if !bytes.HasPrefix(d.in[d.pos:], []byte(`\u`)) {
		return utf8.RuneError
	}
	low, ok := d.hex4(d.pos + 2)
	if !ok {
		return utf8.RuneError // the escape itself is judged next
	}
	whole := utf16.DecodeRune(r, low)
	if whole != utf8.RuneError {
		d.pos += 6
	}
	return whole
}

func (d *Decoder) hex4(at int) (rune, bool) {
	if at+4 > len(d.in) {
		return 0, false
	}
	var r rune
	for _, c := range d.in[at : at+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// Skip takes a value that nobody wants.
func (d *Decoder) Skip() {
	switch d.peek() {
	case '{':
		for d.Object(); d.More('}'); {
			d.Key()
			d.Skip()
		}
	case '[':
		for d.Array(); d.More(']'); {
			d.Skip()
		}
	case '"':
		_ = d.String()
	case 't', 'f':
		d.Bool()
	case 'n':
		d.Null()
	default:
		if d.err == nil {
			d.number()
		}
	}
}
