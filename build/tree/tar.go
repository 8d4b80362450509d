package tree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/internal/fileattr"
)

// maxSparse is the size in bytes up to which a sparse file is taken from an archive: a few bytes can
// declare any number of zeros.
const maxSparse = 1 << 30

// FromTar spools an uncompressed tar into the store and returns its tree, with every owner 0:0. Names
// that lead out of the archive, or through its links, are refused with a sentence (errdefs.
// ErrInvalidArgument); of a name that comes twice the last is taken; missing directories are made.
func (s *Store) FromTar(ctx context.Context, r io.Reader) (*Tree, error) {
	w, err := s.Writer()
	if err != nil {
		return nil, err
	}
	sp := spool{w: w, entries: map[string]*spooled{}}
	if err := sp.read(ctx, tar.NewReader(r)); err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return sp.tree(s), w.Commit()
}

type spooled struct {
	Entry
	content Content
}

type spool struct {
	w       *Writer
	entries map[string]*spooled
	links   uint64 // files that have several names
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("the context's archive: "+format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

func (sp *spool) read(ctx context.Context, tr *tar.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return invalid("%w", err)
		}
		if len(sp.entries) >= session.MaxEntries {
			return invalid("more than %d names", session.MaxEntries)
		}
		if err := sp.entry(ctx, h, tr); err != nil {
			return err
		}
	}
}

// name brings a name of an archive into the form of a list. "" is the root.
func name(n string) (string, error) {
	for c := range strings.SplitSeq(n, "/") {
		if c == ".." {
			return "", invalid("%q leads out of it", n)
		}
	}
	clean := strings.TrimPrefix(path.Clean("/"+n), "/")
	if clean == "" {
		return "", nil
	}
	if err := session.CheckPath(clean); err != nil {
		return "", invalid("%w", err)
	}
	return clean, nil
}

var tarTypes = map[byte]uint32{
	tar.TypeReg: session.ModeReg, tar.TypeLink: session.ModeReg, tar.TypeGNUSparse: session.ModeReg, tar.TypeCont: session.ModeReg,
	tar.TypeDir: session.ModeDir, tar.TypeSymlink: session.ModeLink,
	tar.TypeChar: session.ModeChar, tar.TypeBlock: session.ModeBlk, tar.TypeFifo: session.ModeFIFO,
}

func (sp *spool) entry(ctx context.Context, h *tar.Header, r io.Reader) error {
	typ, ok := tarTypes[h.Typeflag]
	if !ok {
		if h.Typeflag == tar.TypeXGlobalHeader {
			return nil
		}
		return invalid("%q is of type %q, which is no file", h.Name, h.Typeflag)
	}
	p, err := name(h.Name)
	if err != nil || p == "" {
		return err
	}
	e := &spooled{Entry: Entry{Entry: session.Entry{
		Path: p, Mode: typ | uint32(h.Mode)&0o7777, Mtime: h.ModTime.UnixNano(), Ctime: h.ModTime.UnixNano(),
	}}}
	for k, v := range h.PAXRecords {
		if attr, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok && fileattr.Allowed(attr, v) {
			e.Xattrs = append(e.Xattrs, session.Xattr{Name: attr, Value: v})
		}
	}
	slices.SortFunc(e.Xattrs, func(a, b session.Xattr) int { return strings.Compare(a.Name, b.Name) })
	switch h.Typeflag {
	case tar.TypeSymlink:
		e.Link = h.Linkname
		if e.Link == "" || len(e.Link) > 4095 {
			return invalid("the symbolic link %q has no target that could be", h.Name)
		}
	case tar.TypeLink:
		if err := sp.hardlink(e, h); err != nil {
			return err
		}
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return invalid("the device %q has no number that could be", h.Name)
		}
		e.Rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		if h.Size > maxSparse && sparse(h) {
			return invalid("%q is a sparse file of %d bytes, at most %d are taken", h.Name, h.Size, maxSparse)
		}
		if e.Sum, e.content, err = sp.w.PutReader(ctx, r, h.Size); err != nil {
			return invalid("%q: %w", h.Name, err)
		}
		e.Size = h.Size
	}
	return sp.add(e)
}

func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// hardlink makes e what its target is: a tree has hard links only to names before them, so they are
// made files that share a content, and tree finds out which is first.
func (sp *spool) hardlink(e *spooled, h *tar.Header) error {
	target, err := name(h.Linkname)
	if err != nil {
		return err
	}
	to := sp.entries[target]
	if to == nil || to.Mode&session.ModeType == session.ModeDir || target == e.Path {
		return invalid("%q is a hard link to %q, which is no file before it", h.Name, h.Linkname)
	}
	p := e.Path
	*e = *to
	e.Path = p
	if to.Mode&session.ModeType == session.ModeReg {
		if to.Inode == 0 {
			sp.links++
			to.Inode = sp.links // marks them as one file
		}
		e.Inode = to.Inode
	}
	return nil
}

// add puts e in its place, replaces what was there, and makes missing parents.
func (sp *spool) add(e *spooled) error {
	for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
		up := sp.entries[dir]
		if up == nil {
			up = &spooled{Entry: Entry{Entry: session.Entry{Path: dir, Mode: session.ModeDir | 0o755, Mtime: e.Mtime, Ctime: e.Ctime}}}
			sp.entries[dir] = up
		}
		if !up.IsDir() {
			return invalid("%q is below %q, which is no directory", e.Path, dir)
		}
	}
	old := sp.entries[e.Path]
	if old != nil && old.IsDir() && !e.IsDir() {
		for p := range sp.entries {
			if strings.HasPrefix(p, e.Path+"/") {
				return invalid("%q is a directory and then something else", e.Path)
			}
		}
	}
	sp.entries[e.Path] = e
	return nil
}

// tree sorts what came.
func (sp *spool) tree(s *Store) *Tree {
	list := make([]*spooled, 0, len(sp.entries))
	for _, e := range sp.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *spooled) int { return session.ComparePaths(a.Path, b.Path) })
	first := map[uint64]string{} // of a file with several names
	entries, contents := make([]Entry, len(list)), map[int]Content{}
	for i, e := range list {
		if e.Mode&session.ModeType == session.ModeReg {
			if p, ok := first[e.Inode]; ok && e.Inode != 0 {
				e.Hardlink = p
			} else {
				first[e.Inode] = e.Path
				contents[i] = e.content
			}
		}
		e.Inode = 0
		entries[i] = e.Entry
	}
	return s.New(entries, contents, nil)
}

// WriteTar writes the tree as a layer's tar: in order, PAX, whole seconds, owners 0:0. Everything must
// have been loaded.
func (t *Tree) WriteTar(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	for i := range t.Entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.writeEntry(tw, i); err != nil {
			return fmt.Errorf("%s: %w", t.Entries[i].Path, err)
		}
	}
	return tw.Close()
}

func (t *Tree) writeEntry(tw *tar.Writer, i int) error {
	e := &t.Entries[i]
	h := &tar.Header{
		Name: e.Path, Mode: int64(e.Mode & 0o7777), Linkname: e.Link, Format: tar.FormatPAX,
		ModTime: time.Unix(0, e.Mtime).Truncate(time.Second),
	}
	if len(e.Xattrs) > 0 {
		h.PAXRecords = map[string]string{}
		for _, x := range e.Xattrs {
			h.PAXRecords["SCHILY.xattr."+x.Name] = x.Value
		}
	}
	switch e.Mode & session.ModeType {
	case session.ModeDir:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case session.ModeLink:
		h.Typeflag = tar.TypeSymlink
	case session.ModeChar, session.ModeBlk:
		h.Typeflag = tar.TypeChar
		if e.Mode&session.ModeType == session.ModeBlk {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(e.Rdev)), int64(unix.Minor(e.Rdev))
	case session.ModeFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return t.writeFile(tw, h, i)
	}
	return tw.WriteHeader(h)
}

func (t *Tree) writeFile(tw *tar.Writer, h *tar.Header, i int) error {
	if t.Entries[i].Hardlink != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, t.Entries[i].Hardlink
		return tw.WriteHeader(h)
	}
	c, err := t.Content(i)
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, c.Size()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if c.data != nil {
		_, err = io.Copy(tw, bytes.NewReader(c.data))
		return err
	}
	_, err = io.Copy(tw, c.Reader())
	return err
}
