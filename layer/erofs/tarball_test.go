package erofs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func reader(b []byte) io.Reader { return bytes.NewReader(b) }

// entry is one of a tar that a test makes.
type entry struct {
	tar.Header
	body string
}

// opt changes an entry.
type opt func(*entry)

func mode(m int64) opt      { return func(e *entry) { e.Mode = m } }
func owner(u, g int) opt    { return func(e *entry) { e.Uid, e.Gid = u, g } }
func device(a, b int64) opt { return func(e *entry) { e.Devmajor, e.Devminor = a, b } }
func at(sec, nsec int64) opt {
	return func(e *entry) { e.ModTime = time.Unix(sec, nsec); e.Format = tar.FormatPAX }
}
func attr(name, value string) opt {
	return func(e *entry) {
		if e.PAXRecords == nil {
			e.PAXRecords = map[string]string{}
		}
		e.PAXRecords[paxXattr+name] = value
	}
}
func gnu(e *entry) { e.Format = tar.FormatGNU }

func make1(typ byte, name string, m int64, opts []opt) entry {
	e := entry{Header: tar.Header{Typeflag: typ, Name: name, Mode: m, ModTime: time.Unix(defaultTime, 0)}}
	for _, o := range opts {
		o(&e)
	}
	return e
}

func dir(name string, opts ...opt) entry  { return make1(tar.TypeDir, name, 0o755, opts) }
func fifo(name string, opts ...opt) entry { return make1(tar.TypeFifo, name, 0o600, opts) }
func char(name string, opts ...opt) entry { return make1(tar.TypeChar, name, 0o600, opts) }
func blk(name string, opts ...opt) entry  { return make1(tar.TypeBlock, name, 0o600, opts) }
func reg(name, body string, opts ...opt) entry {
	e := make1(tar.TypeReg, name, 0o644, opts)
	e.Size, e.body = int64(len(body)), body
	return e
}
func symlink(name, target string, opts ...opt) entry {
	e := make1(tar.TypeSymlink, name, 0o777, opts)
	e.Linkname = target
	return e
}
func link(name, target string, opts ...opt) entry {
	e := make1(tar.TypeLink, name, 0o644, opts)
	e.Linkname = target
	return e
}

// pack makes a tar.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// raw makes one header block by hand, for what archive/tar does not write. Fields are offset and text.
type field struct {
	at   int
	text string
}

func raw(typ byte, name, size string, fields ...field) []byte {
	b := make([]byte, blockSize)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	copy(b[124:], size)
	copy(b[136:], fmt.Sprintf("%011o", int64(defaultTime)))
	b[156] = typ
	copy(b[257:], "ustar\x0000")
	for _, f := range fields {
		copy(b[f.at:], f.text)
	}
	return sum(b)
}

// sum sets the checksum of a header block.
func sum(b []byte) []byte {
	copy(b[148:156], "        ")
	n := 0
	for _, c := range b {
		n += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", n))
	return b
}

// paxBlocks is an extended header with the records, "key=value" each.
func paxBlocks(records ...string) []byte {
	var body strings.Builder
	for _, r := range records {
		n := len(r) + 3
		for len(fmt.Sprintf("%d %s\n", n, r)) != n {
			n++
		}
		fmt.Fprintf(&body, "%d %s\n", n, r)
	}
	return append(raw('x', "PaxHeaders/x", fmt.Sprintf("%011o", body.Len())), blocks(body.String())...)
}

// blocks fills text up to whole blocks.
func blocks(s string) []byte { return append([]byte(s), make([]byte, padding(int64(len(s))))...) }

var tarEnd = make([]byte, 2*blockSize)

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
