package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image/manifest"
)

// maxEntries is how many entries an archive may have, maxName how long their names may be.
const (
	maxEntries = 100_000
	maxName    = 1024
)

// contents is what was found in an archive, by the names of its entries.
type contents struct {
	spool  *spool
	docs   map[string]span
	layers map[string]found
	links  map[string]string // from a symbolic or hard link to what it names
	names  map[string]bool   // of all entries but directories
}

// found is what became of an entry that looks like a layer.
type found struct {
	layer Layer
	err   error // it is no layer after all; only matters where something says that it is one
}

func newContents(s *spool) *contents {
	return &contents{spool: s, docs: map[string]span{}, layers: map[string]found{}, links: map[string]string{}, names: map[string]bool{}}
}

// read takes in all entries.
func (c *contents) read(ctx context.Context, r io.Reader, opts ReadOptions, dst Target) error {
	entries := tar.NewReader(r)
	for n := 0; ; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := entries.Next()
		switch {
		case errors.Is(err, io.EOF) && n == 0:
			return invalid("it is empty")
		case errors.Is(err, io.EOF):
			_, err := io.Copy(io.Discard, r) // what compressed it has a checksum at its end
			return err
		case err != nil:
			return explainTar(err, n)
		case n >= maxEntries:
			return invalid("it has more than %d entries", maxEntries)
		}
		name, err := entryName(h.Name)
		if err != nil {
			return err
		}
		if err := c.entry(ctx, name, h, entries, opts, dst); err != nil {
			return explainEntry(name, err)
		}
	}
}

func explainTar(err error, n int) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return damaged("it ends in the middle: it was cut short")
	case errors.Is(err, tar.ErrHeader) && n == 0:
		return invalid("it is no tar file")
	case errors.Is(err, tar.ErrHeader):
		return damaged("what follows entry %d is no tar header: it is damaged", n)
	}
	return err
}

func explainEntry(name string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it ends in the middle of %q: it was cut short", name)
	}
	return err
}

// entryName checks and cleans the name of an entry. Names aren't used as paths here, but an archive with
// such a name was made to be unpacked over something.
func entryName(name string) (string, error) {
	switch {
	case len(name) > maxName:
		return "", invalid("it has an entry whose name is %d bytes long", len(name))
	case strings.HasPrefix(name, "/"):
		return "", invalid("it has an entry with an absolute path: %q", name)
	case strings.ContainsRune(name, 0) || strings.ContainsRune(name, '\\'):
		return "", invalid("it has an entry with an odd name: %q", name)
	}
	for _, part := range strings.Split(name, "/") {
		if part == ".." {
			return "", invalid("it has an entry that leads out of it: %q", name)
		}
	}
	return path.Clean(name), nil
}

func (c *contents) entry(ctx context.Context, name string, h *tar.Header, r io.Reader, opts ReadOptions, dst Target) error {
	if h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if c.names[name] {
		return invalid("it has two entries named %q", name)
	}
	c.names[name] = true
	if isSparse(h) {
		return invalid("%q is a sparse file, which no archive of images has", name)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return c.file(ctx, name, h.Size, r, opts, dst)
	case tar.TypeSymlink, tar.TypeLink:
		target, err := linkTarget(name, h)
		c.links[name] = target
		return err
	}
	return invalid("%q is neither a file nor a directory nor a link (type %q)", name, h.Typeflag)
}

// isSparse says whether a file's size says nothing of the bytes that the archive has of it: 300 GB of
// holes fit in 10 KB.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// linkTarget is the name that a link stands for: older Docker and podman write a layer once, and links
// to it.
func linkTarget(name string, h *tar.Header) (string, error) {
	target := h.Linkname
	if len(target) > maxName {
		return "", invalid("%q is a link to a name of %d bytes", name, len(target))
	}
	if h.Typeflag == tar.TypeSymlink && !strings.HasPrefix(target, "/") {
		target = path.Join(path.Dir(name), target)
	}
	if target == "" || target == ".." || strings.HasPrefix(target, "../") || strings.HasPrefix(target, "/") {
		return "", invalid("%q is a link that leads out of the archive, to %q", name, h.Linkname)
	}
	return path.Clean(target), nil
}

// resolve brings a name that a document says to that of an entry, through links.
func (c *contents) resolve(name string) string {
	name = path.Clean(name)
	for range 10 {
		target, ok := c.links[name]
		if !ok {
			return name
		}
		name = target
	}
	return name
}

// file takes in one file: a layer, or what might be a document.
func (c *contents) file(ctx context.Context, name string, size int64, r io.Reader, opts ReadOptions, dst Target) error {
	blob := digestOf(name)
	checked := &checking{from: r, want: blob, name: name}
	if blob != "" {
		checked.digester = blob.Algorithm().Digester()
	}
	buffered := bufio.NewReaderSize(checked, 64<<10)
	start, err := buffered.Peek(blockSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	kind := sniff(start)
	switch {
	case kind == "" && size <= manifest.MaxSize:
		c.docs[name], err = c.spool.put(name, buffered)
		return err
	case kind == "" && topLevel[name]:
		return invalid("%q has %d bytes, at most %d are read of a document", name, size, manifest.MaxSize)
	case kind == "":
		_, err := io.Copy(io.Discard, buffered)
		return err
	}
	return c.layer(ctx, name, blob, kind, size, buffered, checked, opts, dst)
}

// topLevel is the documents that say what is in an archive.
var topLevel = map[string]bool{manifestFile: true, repositoriesFile: true, ocispec.ImageIndexFile: true, ocispec.ImageLayoutFile: true}

const (
	manifestFile     = "manifest.json"
	repositoriesFile = "repositories"
)

// layer puts what looks like a layer into the Target. Where that fails by what the entry is, it only
// matters if the entry turns out to be needed: an archive may have all kinds of blobs.
func (c *contents) layer(ctx context.Context, name string, blob digest.Digest, mediaType string, size int64, r io.Reader, checked *checking, opts ReadOptions, dst Target) error {
	checked.tell, checked.total = opts.Progress, size
	if blob != "" {
		have, ok, err := dst.FindLayer(ctx, blob)
		if err != nil {
			return fmt.Errorf("layer %q: %w", name, err)
		}
		if ok {
			c.layers[name] = found{layer: have}
			checked.done()
			return nil
		}
	}
	added, err := dst.AddLayer(ctx, r)
	if checked.err == nil && ctx.Err() == nil {
		_, _ = io.Copy(io.Discard, r) // what is left, so that the digest is that of all; errors are in checked
	}
	switch {
	case checked.err != nil:
		return checked.err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		c.layers[name] = found{err: err}
		return nil
	}
	if blob != "" && added.Blob.Digest != blob {
		return fmt.Errorf("layer %q was stored as %s", name, added.Blob.Digest)
	}
	added.Blob.MediaType = mediaType
	c.layers[name] = found{layer: added}
	checked.done()
	return nil
}

// doc returns a document, or nil where there is none of this name.
func (c *contents) doc(name string) ([]byte, error) {
	p, ok := c.docs[c.resolve(name)]
	if !ok {
		return nil, nil
	}
	return c.spool.get(p)
}

// digestOf is the digest that the name of a blob in a layout says, or "".
func digestOf(name string) digest.Digest {
	parts := strings.Split(name, "/")
	if len(parts) != 3 || parts[0] != ocispec.ImageBlobsDir {
		return ""
	}
	d := digest.NewDigestFromEncoded(digest.Algorithm(parts[1]), parts[2])
	if d.Validate() != nil {
		return ""
	}
	return d
}

func blobName(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// checking reads an entry and holds it to the digest in its name.
type checking struct {
	from     io.Reader
	name     string
	want     digest.Digest // "": any
	digester digest.Digester
	err      error // what reading the archive came to, where that was not its end

	tell        func(Event) // nil: nobody
	read, total int64
	last        time.Time
}

func (c *checking) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.read += int64(n)
	if c.digester != nil {
		c.digester.Hash().Write(p[:n])
	}
	c.report(false)
	if errors.Is(err, io.EOF) && c.digester != nil && c.digester.Digest() != c.want {
		err = damaged("%q has the digest %s: it is damaged", c.name, c.digester.Digest())
	}
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

func (c *checking) done() { c.report(true) }

func (c *checking) report(done bool) {
	if c.tell == nil {
		return
	}
	if now := time.Now(); done || now.Sub(c.last) >= 100*time.Millisecond {
		c.last = now
		c.tell(Event{Name: c.name, Current: c.read, Total: c.total, Done: done})
	}
}

const blockSize = 512 // of a tar

// sniff says which media type a layer with these first bytes has; "" for what is no layer.
func sniff(start []byte) string {
	switch {
	case isGzip(start):
		return ocispec.MediaTypeImageLayerGzip
	case isZstd(start):
		return ocispec.MediaTypeImageLayerZstd
	case isTar(start):
		return ocispec.MediaTypeImageLayer
	}
	return ""
}

func isGzip(b []byte) bool { return bytes.HasPrefix(b, []byte{0x1f, 0x8b}) }

func isZstd(b []byte) bool { return bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}) }

// isTar says whether a block is a header whose checksum is right, or the end of an empty tar.
func isTar(b []byte) bool {
	if len(b) < blockSize {
		return false
	}
	if bytes.Count(b, []byte{0}) == blockSize {
		return true
	}
	const at, size = 148, 8 // the checksum counts as spaces
	var unsigned, signed int64
	for i, c := range b[:blockSize] {
		if i >= at && i < at+size {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	var want int64
	if _, err := fmt.Sscanf(strings.Trim(string(b[at:at+size]), " \x00"), "%o", &want); err != nil {
		return false
	}
	return want == unsigned || want == signed
}
