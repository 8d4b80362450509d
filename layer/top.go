package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/inroot"
)

// What a layer file cannot say, because it is shared by all stacks that have the layer, and the answer
// depends on what lies below: the attributes of directories that the layer's tar has no entry for
// (overlayfs shows those of the uppermost layer that has the directory), and the content of hard links
// to files that only layers below have. A stack that has any of it gets one more layer file on top, made
// for the stack and named by its ChainID: those directories with the attributes from below, and those files.

// level is one mounted layer of a stack.
type level struct {
	root *os.File
	rec  record
}

// pinTop returns the root of the stack's own uppermost layer, nil where it needs none.
func (st *Stack) pinTop(ctx context.Context, levels []level) (*os.File, error) {
	if st.chain == "" {
		return nil, nil
	}
	name, known := st.s.top(st.chain)
	if known && name == "" {
		return nil, nil
	}
	var entries []topEntry
	if !known {
		var err error
		if entries, err = newSight(levels).top(); err != nil {
			return nil, err
		}
		if name = ""; len(entries) > 0 {
			name = "top-" + st.chain.Encoded()
		}
		st.s.setTop(st.chain, name)
		if name == "" {
			return nil, nil
		}
	}
	low, err := st.pin(ctx, name, func() (object, error) {
		return st.s.derive(ctx, name, st.ids, func(w *tar.Writer) error {
			if entries == nil { // known, but not mounted any more
				var err error
				if entries, err = newSight(levels).top(); err != nil {
					return err
				}
			}
			return writeTop(ctx, w, levels, entries)
		})
	})
	if err != nil {
		return nil, err
	}
	return low.root, nil
}

func (s *Store) top(chain digest.Digest) (name string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, known = s.tops[chain]
	return name, known
}

func (s *Store) setTop(chain digest.Digest, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tops[chain] = name
}

// topEntry is one file or directory of a stack's own layer.
type topEntry struct {
	path string
	from place  // whose attributes and content it has
	link string // the path of an entry before it that it is another name of, or ""
}

// place is a file of one level.
type place struct {
	level int
	path  string
}

// sight looks at levels as overlayfs does, but knows which level a thing comes from.
type sight struct {
	levels []level
	linked []map[string]place // by level: its hard links to what is below
	seen   map[place]look
}

func newSight(levels []level) *sight {
	return &sight{levels: levels, linked: make([]map[string]place, len(levels)), seen: map[place]look{}}
}

// look is what one level has at a path.
type look struct {
	kind   lookKind
	attrs  attributes // of a directory or file
	covers bool       // something here hides what the levels below have at the path
}

type lookKind byte

const (
	nothing lookKind = iota
	directory
	file // or a link, a device, …: whatever is not a directory
)

// at returns what a level has at a clean path, no link followed.
func (v *sight) at(p place) (look, error) {
	if l, ok := v.seen[p]; ok {
		return l, nil
	}
	l, err := v.open(p)
	if err != nil {
		return look{}, fmt.Errorf("look at /%s in a layer: %w", p.path, err)
	}
	v.seen[p] = l
	return l, nil
}

func (v *sight) open(p place) (look, error) {
	l := v.levels[p.level]
	covers := l.rec.Opaque
	if p.path != "" {
		parent, err := v.at(place{p.level, dirOf(p.path)})
		if err != nil || parent.kind != directory {
			return look{covers: parent.covers}, err
		}
		covers = parent.covers || parent.attrs.opaque
	}
	f, err := openBeneath(l.root, p.path)
	if errors.Is(err, os.ErrNotExist) {
		return look{covers: covers}, nil
	}
	if err != nil {
		return look{}, err
	}
	defer f.Close()
	attrs, err := attributesOf(f)
	switch {
	case err != nil:
		return look{}, err
	case isDir(attrs.st.Mode):
		return look{kind: directory, attrs: attrs, covers: covers}, nil
	case isWhiteout(&attrs.st):
		return look{covers: true}, nil
	}
	return look{kind: file, attrs: attrs, covers: true}, nil
}

// visible returns where the file or directory comes from that the levels up to one show at a path.
func (v *sight) visible(upTo int, path string) (place, look, error) {
	for i := upTo; i >= 0; i-- {
		if from, ok := v.linked[i][path]; ok {
			l, err := v.at(from)
			return from, l, err
		}
		l, err := v.at(place{i, path})
		if err != nil || l.kind != nothing || l.covers {
			return place{i, path}, l, err
		}
	}
	return place{}, look{}, nil
}

// implied says whether the directory is in the level only because something is in it.
func (v *sight) implied(p place) bool {
	_, found := slices.BinarySearch(v.levels[p.level].rec.Implied, p.path)
	return found
}

// attributes returns whose attributes the directory at path has: those of the uppermost level that
// says something of it. Where none does, it is the uppermost that has it. An opaque mark in the directory
// does not speak of it: it removes the children (OCI image-spec, "Opaque Whiteout").
func (v *sight) attributes(path string) (from, shown place, err error) {
	shown, l, err := v.visible(len(v.levels)-1, path)
	if err != nil {
		return from, shown, err
	}
	for p := shown; ; p.level-- {
		if p.level != shown.level {
			if l, err = v.at(p); err != nil {
				return from, shown, err
			}
		}
		switch {
		case l.kind == directory && !v.implied(p):
			return p, shown, nil
		case l.covers, p.level == 0:
			return shown, shown, nil
		}
	}
}

// top returns what the levels need on top of them, sorted by path; nothing in the usual case.
func (v *sight) top() ([]topEntry, error) {
	entries := map[string]topEntry{}
	if err := v.addLinks(entries); err != nil {
		return nil, err
	}
	if err := v.addDirs(entries); err != nil {
		return nil, err
	}
	// Every entry needs its directories, and those hide what they were.
	for p := range entries {
		for p = dirOf(p); p != ""; p = dirOf(p) {
			if _, ok := entries[p]; ok {
				break
			}
			from, _, err := v.attributes(p)
			if err != nil {
				return nil, err
			}
			entries[p] = topEntry{path: p, from: from}
		}
	}
	list := make([]topEntry, 0, len(entries))
	for _, e := range entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b topEntry) int { return strings.Compare(a.path, b.path) })
	return list, nil
}

// addDirs adds the implied directories that would not be shown as they were.
func (v *sight) addDirs(entries map[string]topEntry) error {
	paths := map[string]bool{}
	for _, l := range v.levels[1:] {
		for _, p := range l.rec.Implied {
			paths[p] = true
		}
	}
	for p := range paths {
		_, l, err := v.visible(len(v.levels)-1, p)
		if err != nil {
			return err
		}
		if l.kind != directory {
			continue // a level above has put an end to it
		}
		from, shown, err := v.attributes(p)
		if err != nil {
			return err
		}
		if from == shown {
			continue
		}
		real, err := v.at(from)
		if err != nil {
			return err
		}
		if !real.attrs.same(l.attrs) || real.attrs.st.Mtim != l.attrs.st.Mtim {
			entries[p] = topEntry{path: p, from: from}
		}
	}
	return nil
}

// addLinks adds the hard links to files of layers below, as far as no layer above has something else
// there. Their targets come along: they are the same file.
func (v *sight) addLinks(entries map[string]topEntry) error {
	type inode struct {
		level  int
		target string
	}
	names := map[inode][]string{}
	for i, l := range v.levels {
		v.linked[i] = map[string]place{}
		found := map[string]place{}
		for _, link := range l.rec.Links {
			from, err := v.linkTarget(i, link.Path, link.Target)
			if err != nil {
				return err
			}
			found[link.Path] = from
			ino := inode{i, link.Target}
			names[ino] = append(names[ino], link.Path)
			own, err := v.at(place{i, link.Target})
			if err != nil {
				return err
			}
			if own.kind == nothing && !own.covers && found[link.Target] == (place{}) {
				found[link.Target] = from
				names[ino] = append(names[ino], link.Target)
			}
		}
		v.linked[i] = found
	}
	for ino, paths := range names {
		slices.Sort(paths)
		first := ""
		for _, p := range slices.Compact(paths) {
			from, l, err := v.visible(len(v.levels)-1, p)
			if err != nil {
				return err
			}
			if l.kind != file || from != v.linked[ino.level][p] || v.overridden(ino.level, p) {
				continue
			}
			entries[p] = topEntry{path: p, from: from, link: first}
			if first == "" {
				first = p
			}
		}
	}
	return nil
}

// linkTarget returns the file that a hard link of a level leads to.
func (v *sight) linkTarget(i int, link, target string) (place, error) {
	from, l, err := place{}, look{}, error(nil)
	if !v.levels[i].rec.Opaque {
		from, l, err = v.visible(i-1, target)
	}
	if err != nil {
		return place{}, err
	}
	if l.kind != file {
		what := "is in no layer"
		if l.kind == directory {
			what = "is a directory"
		}
		return place{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("layer %s has a hard link %q to %q, which %s below it", v.levels[i].rec.DiffID, link, target, what))
	}
	return from, nil
}

// overridden says whether a level above i has a link of its own at path.
func (v *sight) overridden(i int, path string) bool {
	for _, above := range v.linked[i+1:] {
		if _, ok := above[path]; ok {
			return true
		}
	}
	return false
}

// writeTop writes the entries as a tar.
func writeTop(ctx context.Context, w *tar.Writer, levels []level, entries []topEntry) error {
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeCopy(w, levels[e.from.level].root, e); err != nil {
			return err
		}
	}
	return nil
}

func writeCopy(w *tar.Writer, root *os.File, e topEntry) error {
	f, err := openBeneath(root, e.from.path)
	if err != nil {
		return err
	}
	defer f.Close()
	attrs, err := attributesOf(f)
	if err != nil {
		return err
	}
	return writeEntry(w, f, attrs, e.path, e.link)
}

// writeEntry writes the open file (O_PATH) with its attributes under a name; where link is not "", as
// another name of the entry link.
func writeEntry(w *tar.Writer, f *os.File, attrs attributes, name, link string) (err error) {
	h := attrs.header(name)
	switch {
	case link != "":
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, link, 0
		h.PAXRecords = nil
		return w.WriteHeader(h)
	case h.Typeflag == tar.TypeReg:
		return writeRegular(w, f, h)
	case h.Typeflag == tar.TypeSymlink:
		if h.Linkname, err = readlink(f); err != nil {
			return err
		}
	}
	return w.WriteHeader(h)
}

// writeRegular writes a regular file's header and content: as many bytes as it has when it is opened,
// zeros for what is cut off meanwhile.
func writeRegular(w *tar.Writer, f *os.File, h *tar.Header) error {
	if h.Size == 0 {
		return w.WriteHeader(h)
	}
	content, err := inroot.Reopen(f, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer content.Close()
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(content, h.Size))
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	_, err = io.CopyN(w, zeros{}, h.Size-n)
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// readlink returns the target of a symbolic link that was opened with O_PATH.
func readlink(f *os.File) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: f.Name(), Err: err}
	}
	return string(buf[:n]), nil
}

// dirOf is the directory of a clean path, "" for what lies in the root.
func dirOf(p string) string {
	if d := path.Dir(p); d != "." {
		return d
	}
	return ""
}
