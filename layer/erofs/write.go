package erofs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Version names the rules by which a tar becomes metadata. Files of the same tar and version are equal
// byte by byte. It is written into every file's header, and goes up when the rules change.
const Version = 1

// Options of Write. The zero value means DefaultLimits.
type Options struct {
	Limits Limits
}

// Result says what Write made, and what a stack of layers has to know about the layer.
type Result struct {
	DiffID  digest.Digest // sha256 of the tar, all of its bytes, those behind its end included
	TarSize int64         // bytes of the tar
	Size    int64         // bytes of the layer file, a multiple of 4096
	Inodes  int           // inodes in the file, the root included

	// MetadataDigest is the sha256 of everything in the file that is not tar: the first 4096 bytes and
	// all that follows the tar. The tar's own digest says nothing of it; VerifyMetadata checks it.
	MetadataDigest digest.Digest

	// Implied are the directories that the tar has no entry for, but entries below them ("secret/f"
	// without "secret/"), sorted, without a leading slash. In the file they are 0755, 0:0, and as old as
	// the entry that implied them: their real attributes are those of the same directory in the layers
	// below, and overlayfs would show these here instead. Directories that hide what is below
	// (".wh.x" beside "x/f") are not among them. The root is never among them.
	Implied []string

	// Opaque says that the tar hides everything in the layers below (".wh..wh..opq" at its root). overlayfs
	// does not look for that at the root of a layer: the stack has to begin with this layer.
	Opaque bool

	// LowerLinks are hard links whose target is in no entry before them in this tar, so it can only be in
	// a layer below. The file has nothing at Path (parents are there, implied where need be): the stack
	// has to bring a copy. Sorted by Path.
	LowerLinks []LowerLink
}

// LowerLink is a hard link out of the layer: applying it copies Target up, with its attributes, xattrs
// and content as the layers below show them, and gives the copy the name Path besides. All links with
// the same Target are one inode, and so is Target itself unless this layer has a whiteout or something
// else there. Both are clean paths without a leading slash; neither is refused for what is below (a
// target that does not exist there, or is a directory, is for the stack to refuse).
type LowerLink struct {
	Path, Target string
}

// Write reads a tar from r to its end and makes a layer file of it in f, which is empty and opened for
// reading and writing. The superblock is written last, so that a file that was not finished is never
// taken for one; nothing is synced. It does not use f's position.
//
// What the tar says wrong or what is over a limit gives an *EntryError or *LimitError (both of the kind
// errdefs.ErrInvalidArgument); a tar that ends too early wraps io.ErrUnexpectedEOF besides. Errors of r
// and f are wrapped. After an error f holds rubbish.
func Write(ctx context.Context, f *os.File, r io.Reader, opts Options) (Result, error) {
	t, src, err := readTar(ctx, r, f, opts.Limits.WithDefaults())
	if err != nil {
		return Result{}, err
	}
	return writeMetadata(ctx, f, t, src)
}

// readTar reads a tar to its end: into a tree, and where file is not nil, into the file.
func readTar(ctx context.Context, r io.Reader, file *os.File, limits Limits) (*tree, *source, error) {
	src := newSource(ctx, r, file, limits.Tar)
	b := &budget{max: limits.Metadata}
	t := newTree(limits, b)
	err := func() error {
		entries := &entries{src: src, budget: b}
		for {
			h, err := entries.next()
			if errors.Is(err, errTarEnd) {
				return src.toEnd()
			}
			if err != nil {
				return err
			}
			if err := t.add(h); err != nil {
				return err
			}
		}
	}()
	return t, src, errors.Join(err, src.close())
}

// writeMetadata writes what is not tar: first what is behind it, then the superblock.
func writeMetadata(ctx context.Context, f *os.File, t *tree, src *source) (Result, error) {
	res := Result{DiffID: src.digest(), TarSize: src.read, Opaque: t.inodes[root].flags&flagOpaque != 0}
	res.Implied, res.LowerLinks = t.forStack()
	l := newLayout(t, src.read)
	if l.size-l.meta > t.limits.Metadata+fileAlign {
		return Result{}, &LimitError{Limit: "Metadata", Max: t.limits.Metadata, what: "bytes of metadata"}
	}
	res.Size, res.Inodes = l.size, len(l.order)

	super := l.superblock(res.DiffID).encode()
	w := &metadataWriter{f: f, off: headerSize + src.read, hash: sha256.New()}
	w.hash.Write(super)
	if err := l.write(ctx, w); err != nil {
		return Result{}, err
	}
	if w.off != l.size {
		return Result{}, fmt.Errorf("layer/erofs: laid out %d bytes, wrote %d", l.size, w.off)
	}
	if _, err := f.WriteAt(super, 0); err != nil {
		return Result{}, fmt.Errorf("write the layer file: %w", err)
	}
	res.MetadataDigest = digest.NewDigest(digest.SHA256, w.hash)
	return res, nil
}

// forStack lists what only a stack of layers can settle.
func (t *tree) forStack() (implied []string, lower []LowerLink) {
	dirs := []uint32{root}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		n := &t.inodes[dir]
		if n.flags&flagImplied != 0 && dir != root && !t.dentries[n.name].white {
			implied = append(implied, t.path(n.name))
		}
		for c := n.first; c != noDentry; c = t.dentries[c].next {
			d := &t.dentries[c]
			if d.dead || d.inode == noInode {
				continue
			}
			switch child := &t.inodes[d.inode]; {
			case child.is(modeDir):
				dirs = append(dirs, d.inode)
			case child.flags&flagLower != 0:
				lower = append(lower, LowerLink{Path: t.path(c), Target: string(t.target(child))})
			}
		}
	}
	slices.Sort(implied)
	slices.SortFunc(lower, func(a, b LowerLink) int { return strings.Compare(a.Path, b.Path) })
	return implied, lower
}

func (l *layout) superblock(diffID digest.Digest) superblock {
	return superblock{
		diffID: diffID, tarSize: l.tarSize, size: l.size, inodes: len(l.order),
		rootNID: uint16(l.nids[root]), epoch: l.epoch,
		metaBlock: uint32(l.meta / blockSize), xattr: uint32(l.xattr / blockSize),
		chunks: slices.ContainsFunc(l.order, func(i uint32) bool { return l.t.inodes[i].flags&flagSparse != 0 }),
	}
}

// write writes all that comes after the tar.
func (l *layout) write(ctx context.Context, w *metadataWriter) error {
	if err := w.zerosTo(l.meta); err != nil {
		return err
	}
	var b []byte
	for number, i := range l.order {
		if number%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		b = l.appendInode(b[:0], i, number)
		if err := w.writeAt(l.meta+int64(l.nids[i])*slot, b); err != nil {
			return err
		}
	}
	if err := w.writeAt(l.xattr, l.t.xattrs.area); err != nil {
		return err
	}
	if err := l.writeBlocks(w); err != nil {
		return err
	}
	if err := l.writeCopies(ctx, w); err != nil {
		return err
	}
	if err := w.zerosTo(l.size); err != nil {
		return err
	}
	return w.flush()
}

// writeBlocks writes directories and long targets, as far as they are not inline.
func (l *layout) writeBlocks(w *metadataWriter) error {
	var b []byte
	for number, i := range l.order {
		n, p := &l.t.inodes[i], l.places[number]
		switch {
		case n.is(modeDir) && (p.size >= blockSize || !p.inline):
			b = l.appendDir(b[:0], i)
			if p.inline {
				b = b[:p.size/blockSize*blockSize]
			}
		case n.is(modeSymlink) && !p.inline:
			b = append(b[:0], l.t.target(n)...)
		default:
			continue
		}
		if err := w.writeAt(l.blocks+int64(p.block)*blockSize, b); err != nil {
			return err
		}
	}
	return nil
}

// writeCopies writes the parts of sparse files that can't be pointed at.
func (l *layout) writeCopies(ctx context.Context, w *metadataWriter) error {
	for _, i := range l.order {
		n := &l.t.inodes[i]
		if n.flags&flagSparse == 0 || l.t.maps[n.data].plan.copied == 0 {
			continue
		}
		m := &l.t.maps[n.data]
		at := m.copy
		err := m.each(n.size, func(ch chunk) error {
			if ch.segs == nil || ch.data >= 0 {
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			for _, s := range ch.segs {
				from, to := max(s.off, ch.from), min(s.off+s.size, ch.to)
				if err := w.copyAt(at+from-ch.from, headerSize+s.data+from-s.off, to-from); err != nil {
					return err
				}
			}
			at += roundUp(ch.to-ch.from, blockSize)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// metadataWriter writes on from off, in large pieces, and hashes what it writes.
type metadataWriter struct {
	f    *os.File
	off  int64 // in the file, of the next byte
	hash hash.Hash
	buf  []byte
}

const metadataBuffer = 256 << 10

func (w *metadataWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if w.buf == nil {
			w.buf = make([]byte, 0, metadataBuffer)
		}
		k := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		w.off += int64(k)
		p = p[k:]
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (w *metadataWriter) flush() error {
	w.hash.Write(w.buf)
	if _, err := w.f.WriteAt(w.buf, w.off-int64(len(w.buf))); err != nil {
		return fmt.Errorf("write the layer file: %w", err)
	}
	w.buf = w.buf[:0]
	return nil
}

var zeros [blockSize]byte

// zerosTo writes zeros up to an offset.
func (w *metadataWriter) zerosTo(off int64) error {
	if off < w.off {
		return fmt.Errorf("layer/erofs: laid out for %d what came to %d", off, w.off)
	}
	for w.off < off {
		if _, err := w.Write(zeros[:min(off-w.off, blockSize)]); err != nil {
			return err
		}
	}
	return nil
}

// writeAt writes zeros up to an offset, and b there.
func (w *metadataWriter) writeAt(off int64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := w.zerosTo(off); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

// copyAt writes zeros up to an offset, and there n bytes from another place of the file.
func (w *metadataWriter) copyAt(off, from, n int64) error {
	if err := w.zerosTo(off); err != nil {
		return err
	}
	_, err := io.Copy(w, io.NewSectionReader(w.f, from, n))
	return err
}
