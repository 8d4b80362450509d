package solver

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/cache"
	"github.com/berth-engine/berth/build/session/ignore"
)

// selection is the part of an input that an operation reads.
type selection struct {
	path     string // "" or "/" is everything
	follow   bool   // a link at the end is followed
	wildcard bool   // path is a pattern
	include  []string
	exclude  []string
	required []string
}

// ofCopy is what a copy action reads.
func ofCopy(a *pb.FileActionCopy) selection {
	return selection{
		path: a.Src, follow: a.FollowSymlink, wildcard: a.AllowWildcard, include: a.IncludePatterns, exclude: a.ExcludePatterns, required: a.RequiredPaths,
	}
}

// key names the selection, for what is remembered of it.
func (s selection) key(output int) cache.Key {
	h := sha256.New()
	writeStrings(h, "selection", s.path, fmt.Sprint(s.follow, s.wildcard, output), strings.Join(s.include, "\x00"), strings.Join(s.exclude, "\x00"), strings.Join(s.required, "\x00"))
	return cache.Key(h.Sum(nil))
}

// picked is one file of a selection.
type picked struct {
	*node
	rel string // path below the source that was named; "" is that itself
	// late marks a directory that was not picked itself: it is there because something in it was.
	late bool
}

// source is one thing that a selection names, and what of it is picked, parents first.
type source struct {
	named string // its path as it was named, links not followed; for its base name
	files []picked
}

// pick walks v and gives what s selects, in order.
func pick(ctx context.Context, v view, s selection) ([]source, error) {
	names, err := expand(v, s)
	if err != nil {
		return nil, missing(s.path, err)
	}
	include, err := matcher(s.include)
	if err != nil {
		return nil, err
	}
	exclude, err := matcher(s.exclude)
	if err != nil {
		return nil, err
	}
	var out []source
	for _, name := range names {
		at, err := resolve(v, name, s.follow)
		if err != nil {
			return nil, missing(s.path, err)
		}
		n, err := v.lstat(at)
		if err != nil {
			return nil, missing(s.path, err)
		}
		p := picker{ctx: ctx, v: v, include: include, exclude: exclude}
		if err := p.walk(n, "", ignore.Parent{}, ignore.Parent{}); err != nil {
			return nil, err
		}
		out = append(out, source{name, p.out})
	}
	return out, checkRequired(s, out)
}

func matcher(patterns []string) (*ignore.Matcher, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	return ignore.New(patterns)
}

// checkRequired finds out whether a required path was not picked.
func checkRequired(s selection, found []source) error {
	if len(s.include) == 0 {
		return nil
	}
	for _, want := range s.required {
		want = path.Clean("/" + want)
		ok := slices.ContainsFunc(found, func(src source) bool {
			return slices.ContainsFunc(src.files, func(p picked) bool { return !p.late && strings.HasPrefix("/"+p.path, want) })
		})
		if !ok {
			return &missingSource{want}
		}
	}
	return nil
}

// missingSource is a source that a selection names and that is not there.
type missingSource struct{ path string }

func (e *missingSource) Error() string { return fmt.Sprintf("%q is not there", e.path) }
func (e *missingSource) Unwrap() error { return fs.ErrNotExist }

func missing(p string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return &missingSource{path.Clean("/" + p)}
	}
	return err
}

// expand gives the paths that the selection names: itself, or what its pattern matches.
func expand(v view, s selection) ([]string, error) {
	clean := path.Clean("/" + s.path)[1:]
	if !s.wildcard {
		return []string{clean}, nil
	}
	fixed, pattern := splitPattern(clean)
	if pattern == "" {
		return []string{fixed}, nil
	}
	at, err := resolve(v, fixed, true)
	if err != nil {
		return nil, err
	}
	e := expander{v: v, pattern: pattern, base: at}
	if err := e.walk(at, ""); err != nil {
		return nil, err
	}
	return e.out, nil
}

// splitPattern cuts a path before the first component that has a wildcard. A backslash takes a
// character's meaning away, and is part of the name where nothing else is a wildcard (as BuildKit).
func splitPattern(p string) (fixed, pattern string) {
	parts := strings.Split(p, "/")
	for i, c := range parts {
		if hasWildcard(c) {
			return strings.Join(parts[:i], "/"), strings.Join(parts[i:], "/")
		}
	}
	return p, ""
}

func hasWildcard(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

type expander struct {
	v       view
	base    string
	pattern string
	out     []string
}

// walk looks for names that match the whole pattern, of which dir is depth components deep already.
func (e *expander) walk(dir, rel string) error {
	nodes, err := e.v.readdir(dir)
	if err != nil {
		return err
	}
	parts := strings.Split(e.pattern, "/")
	depth := 0
	if rel != "" {
		depth = strings.Count(rel, "/") + 1
	}
	for _, n := range nodes {
		r := path.Join(rel, n.name())
		ok, err := path.Match(strings.Join(parts[:depth+1], "/"), r)
		if err != nil {
			return fmt.Errorf("pattern %q: %w", e.pattern, err)
		}
		switch {
		case !ok:
		case depth+1 == len(parts):
			e.out = append(e.out, n.path)
		case n.isDir():
			if err := e.walk(n.path, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// picker walks below one source.
type picker struct {
	ctx     context.Context
	v       view
	include *ignore.Matcher // nil: everything
	exclude *ignore.Matcher // nil: nothing
	out     []picked
	waiting []picked // directories that are picked as soon as something in them is
}

func (p *picker) walk(n *node, rel string, inParent, exParent ignore.Parent) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	picks, excluded := true, false
	if rel != "" {
		if p.include != nil {
			picks, inParent = p.include.Match(rel, inParent)
		}
		if p.exclude != nil {
			if excluded, exParent = p.exclude.Match(rel, exParent); excluded {
				picks = false
			}
		}
	}
	me := picked{n, rel, false}
	if picks {
		p.out = append(p.out, p.waiting...)
		p.waiting = nil
		p.out = append(p.out, me)
	}
	if !n.isDir() || excluded && !p.exclude.MayHold(rel) {
		return nil
	}
	if !picks {
		me.late = true
		p.waiting = append(p.waiting, me)
		defer func() { // whatever of me is still waiting holds nothing that was picked
			if i := slices.Index(p.waiting, me); i >= 0 {
				p.waiting = p.waiting[:i]
			}
		}()
	}
	children, err := p.v.readdir(n.path)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := p.walk(c, path.Join(rel, c.name()), inParent, exParent); err != nil {
			return err
		}
	}
	return nil
}

// digestOf is the digest of what the selections pick: names, types, contents, modes, owners, xattrs,
// link targets; no times (rules: "Cache"). A selection that names nothing is an error.
func digestOf(ctx context.Context, v view, selections []selection) (cache.Key, error) {
	h := sha256.New()
	for _, s := range selections {
		sources, err := pick(ctx, v, s)
		if err != nil {
			return cache.Key{}, err
		}
		var nodes []*node
		for _, src := range sources {
			for _, f := range src.files {
				nodes = append(nodes, f.node)
			}
		}
		if err := v.load(ctx, nodes); err != nil {
			return cache.Key{}, err
		}
		binary.Write(h, binary.LittleEndian, uint64(len(sources))) //nolint:errcheck // a hash takes everything
		for _, src := range sources {
			writeStrings(h, path.Base("/"+src.named))
			for _, f := range src.files {
				if err := hashFile(ctx, h, v, f); err != nil {
					return cache.Key{}, err
				}
			}
			h.Write([]byte{0})
		}
	}
	return cache.Key(h.Sum(nil)), nil
}

func hashFile(ctx context.Context, h hash.Hash, v view, f picked) error {
	writeStrings(h, f.rel, f.link)
	var b [20]byte
	binary.LittleEndian.PutUint32(b[:], f.mode)
	binary.LittleEndian.PutUint32(b[4:], f.uid)
	binary.LittleEndian.PutUint32(b[8:], f.gid)
	binary.LittleEndian.PutUint64(b[12:], f.rdev)
	h.Write(b[:])
	if f.isRegular() {
		sum, err := v.sum(ctx, f.node)
		if err != nil {
			return err
		}
		h.Write(sum[:])
	}
	attrs, err := v.xattrs(f.node)
	if err != nil {
		return err
	}
	for _, x := range attrs {
		writeStrings(h, x.Name, x.Value)
	}
	h.Write([]byte{1})
	return nil
}

// writeStrings writes strings so that no two lists of them look alike.
func writeStrings(h hash.Hash, all ...string) {
	var n [8]byte
	for _, s := range all {
		binary.LittleEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
}
