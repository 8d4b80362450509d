package tree

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/berth-engine/berth/build/session"
)

// Sum is the sha256 of a file's content.
type Sum [32]byte

// Entry is one name of a tree, and the digest of its content where it is a regular file (zero until it
// was loaded; Tree.Load says when it may be read).
type Entry struct {
	session.Entry
	Sum Sum
}

// Loader brings contents that are not here yet: those of t's entries want (regular files without a
// Sum). It calls t.Set for each before it returns.
type Loader func(ctx context.Context, t *Tree, want []int) error

// Tree is a list of entries, sorted by session.ComparePaths, and their contents, which come when they
// are asked for.
type Tree struct {
	// Entries may be read by anybody, but for Sum (and, of regular files, Size and times) only after
	// Load of that entry.
	Entries []Entry

	store *Store
	load  Loader

	loading sync.Mutex // one Load at a time asks; before mu
	mu      sync.RWMutex
	content map[int]Content // by index, of loaded entries; guarded by mu
}

// New returns a tree of these entries. Contents that contents does not hold are left to load, which may
// be nil when there are none.
func (s *Store) New(entries []Entry, contents map[int]Content, load Loader) *Tree {
	if contents == nil {
		contents = map[int]Content{}
	}
	return &Tree{Entries: entries, store: s, load: load, content: contents}
}

// Content is where the bytes of a file are: in a file at an offset, or in memory.
type Content struct {
	pack *pack
	off  int64
	size int64
	data []byte
}

// Inline returns a content that is held in memory.
func Inline(data []byte) Content { return Content{data: data, size: int64(len(data))} }

// Size is in bytes.
func (c Content) Size() int64 { return c.size }

// Reader reads the content. It is valid as long as the tree is.
func (c Content) Reader() *io.SectionReader {
	if c.pack == nil {
		return io.NewSectionReader(strings.NewReader(string(c.data)), 0, c.size)
	}
	return io.NewSectionReader(c.pack.f, c.off, c.size)
}

// File is the file and the offset in it where the content begins, for copy_file_range(2); nil where the
// content is in memory. The caller must not close it, nor use its file offset.
func (c Content) File() (f *os.File, off int64) {
	if c.pack == nil {
		return nil, 0
	}
	return c.pack.f, c.off
}

// Find returns the index of the entry with this path.
func (t *Tree) Find(path string) (int, bool) {
	return slices.BinarySearchFunc(t.Entries, path, func(e Entry, p string) int { return session.ComparePaths(e.Path, p) })
}

// Load brings the contents of these entries (indexes into Entries; others than regular files are
// passed over) and sets their Sum. What is here already costs nothing. It may be called concurrently.
func (t *Tree) Load(ctx context.Context, want []int) error {
	if len(t.missing(want)) == 0 {
		return nil
	}
	t.loading.Lock()
	defer t.loading.Unlock()
	missing := t.missing(want)
	if len(missing) == 0 {
		return nil
	}
	if t.load == nil {
		return fmt.Errorf("%s: its content is not here", t.Entries[missing[0]].Path)
	}
	if err := ctx.Err(); err != nil { // what comes fast enough would hide that nobody wants it any more
		return context.Cause(ctx)
	}
	if err := t.load(ctx, t, missing); err != nil {
		return err
	}
	if still := t.missing(missing); len(still) > 0 {
		return fmt.Errorf("%s: its content did not come", t.Entries[still[0]].Path)
	}
	return nil
}

func (t *Tree) missing(want []int) []int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []int
	for _, i := range want {
		if _, ok := t.content[i]; !ok && t.Entries[i].IsReg() {
			out = append(out, i)
		}
	}
	return out
}

// Set notes the content of a regular file, and what stat(2) said when it was read.
func (t *Tree) Set(i int, e Entry, c Content) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.Size = c.size
	t.Entries[i] = e
	t.content[i] = c
}

// Known sets contents of regular files that the store has by their sums, and says which it has not.
func (t *Tree) Known(i int, sum Sum) bool {
	c, ok := t.store.Get(sum)
	if !ok {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Entries[i].Sum = sum
	t.content[i] = c
	return true
}

// Content returns the content of a loaded regular file, that of the file it links to for a hard link.
func (t *Tree) Content(i int) (Content, error) {
	if link := t.Entries[i].Hardlink; link != "" {
		j, ok := t.Find(link)
		if !ok {
			return Content{}, fmt.Errorf("%s: %w", link, os.ErrNotExist)
		}
		i = j
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	c, ok := t.content[i]
	if !ok {
		return Content{}, fmt.Errorf("%s: its content is not here", t.Entries[i].Path)
	}
	return c, nil
}
