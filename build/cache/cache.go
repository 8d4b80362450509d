package cache

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/internal/atomicfile"
)

// Cache is all records, in memory, and the journal that they come from. Its methods may be called
// concurrently.
type Cache struct {
	path string

	mu      sync.Mutex
	loaded  bool           // guarded by mu
	records map[ID]*Record // never changed in place; guarded by mu
	keys    map[Key]ID     // guarded by mu
	f       *os.File       // the journal, at its end; nil until the first Commit; guarded by mu
	end     int64          // bytes of whole lines in the journal; guarded by mu
	lines   int            // lines in the journal; guarded by mu
	pending []byte         // lines that are not in the journal yet; guarded by mu
	added   int            // lines in pending; guarded by mu
	closed  bool           // guarded by mu

	touched map[ID]time.Time // when a record was last come to since Open, which is not written down; guarded by mu
}

// Open returns the cache whose journal is the file path. Nothing is read before the first use.
func Open(path string) *Cache { return &Cache{path: path, touched: map[ID]time.Time{}} }

// Ready reads the journal, if that has not been done. What is damaged is left out; that the file cannot
// be read at all is an error.
func (c *Cache) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready()
}

// ready needs mu held.
func (c *Cache) ready() error {
	if c.closed {
		return errors.New("the build cache is closed")
	}
	if c.loaded {
		return nil
	}
	b, err := os.ReadFile(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the build cache: %w", err)
	}
	var good int
	c.records, good, c.lines = decode(b)
	c.end = int64(good)
	c.keys = map[Key]ID{}
	for id, r := range c.records {
		for _, k := range r.Keys {
			if old, ok := c.records[c.keys[k]]; !ok || old.Created.Before(r.Created) {
				c.keys[k] = id
			}
		}
	}
	c.loaded = true
	return nil
}

// Find returns the record of a key. The record is the caller's to read.
func (c *Cache) Find(k Key) (*Record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready() != nil {
		return nil, false
	}
	r, ok := c.records[c.keys[k]]
	if ok {
		r = c.touch(r)
	}
	return r, ok
}

// Get returns a record by its ID. It is kept by whoever forgets what nobody came to.
func (c *Cache) Get(id ID) (*Record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready() != nil {
		return nil, false
	}
	r, ok := c.records[id]
	if ok {
		c.touched[id] = time.Now()
	}
	return r, ok
}

// touch notes that a record was used, on the disk at most once an hour. It needs mu held.
func (c *Cache) touch(r *Record) *Record {
	now := time.Now()
	c.touched[r.ID] = now
	now = now.UTC() // which has no monotonic reading: Forget needs it
	if now.Sub(r.Used) < time.Hour {
		return r
	}
	r = r.clone()
	r.Used = now
	c.records[r.ID] = r
	c.line(encodeUsed(r.ID, now))
	return r
}

// line needs mu held.
func (c *Cache) line(payload []byte) {
	c.pending = appendLine(c.pending, payload)
	c.added++
}

// NewID returns an ID that no record has.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

// Put adds a record, or replaces the one of the same ID. Its keys lead to it from now on. It is in the
// journal after the next Commit.
func (c *Cache) Put(r *Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready() != nil {
		return
	}
	r = r.clone()
	c.touched[r.ID] = time.Now()
	if r.Used.IsZero() {
		r.Used = time.Now().UTC()
	}
	c.records[r.ID] = r
	for _, k := range r.Keys {
		c.keys[k] = r.ID
	}
	c.pending = encodeAll(c.pending, r)
	c.added += 1 + len(r.Keys) + len(r.Outputs) + len(r.Digests) + len(r.Attributes)
}

// change replaces a record by a changed copy, and says whether there is one. f says which lines tell of the change.
func (c *Cache) change(id ID, f func(r *Record) [][]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready() != nil || c.records[id] == nil {
		return false
	}
	r := c.records[id].clone()
	c.records[id] = r
	for _, l := range f(r) {
		c.line(l)
	}
	for _, k := range r.Keys {
		if _, ok := c.keys[k]; !ok {
			c.keys[k] = id
		}
	}
	return true
}

// AddKey leads another key to the record.
func (c *Cache) AddKey(id ID, k Key) {
	c.change(id, func(r *Record) [][]byte {
		delete(c.keys, k)
		if !r.addKey(k) {
			return nil
		}
		return [][]byte{encodeKey(id, k)}
	})
}

// SetOutput says which layers an output is; false where the record was forgotten.
func (c *Cache) SetOutput(id ID, index int, layers []Layer) bool {
	return c.change(id, func(r *Record) [][]byte {
		r.Outputs[index] = slices.Clone(layers)
		return [][]byte{encodeOutput(id, index, layers)}
	})
}

// SetDigest remembers the digest of a selection of the record's content.
func (c *Cache) SetDigest(id ID, selection, dgst Key) {
	c.change(id, func(r *Record) [][]byte {
		if r.Digests[selection] == dgst {
			return nil
		}
		r.Digests[selection] = dgst
		return [][]byte{encodeDigest(id, selection, dgst)}
	})
}

// Forget removes records, but for those that were come to (Find, Get, Put) since then, and returns the layers that
// they named.
func (c *Cache) Forget(since time.Time, ids ...ID) (layers []digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready() != nil {
		return nil
	}
	for _, id := range ids {
		r, ok := c.records[id]
		if !ok || !c.touched[id].Before(since) {
			continue
		}
		delete(c.touched, id)
		for _, k := range r.Keys {
			if c.keys[k] == id {
				delete(c.keys, k)
			}
		}
		delete(c.records, id)
		c.line(begin(lineForget, id))
		for _, output := range r.Outputs {
			for _, l := range output {
				layers = append(layers, l.DiffID)
			}
		}
	}
	return layers
}

// Records returns all records, the oldest first.
func (c *Cache) Records() ([]*Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ready(); err != nil {
		return nil, err
	}
	out := make([]*Record, 0, len(c.records))
	for _, r := range c.records {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *Record) int { return a.Created.Compare(b.Created) })
	return out, nil
}

// Layers returns all layers that records name, each once.
func (c *Cache) Layers() ([]digest.Digest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ready(); err != nil {
		return nil, err
	}
	seen := map[digest.Digest]bool{}
	var out []digest.Digest
	for _, r := range c.records {
		for _, layers := range r.Outputs {
			for _, l := range layers {
				if !seen[l.DiffID] {
					seen[l.DiffID] = true
					out = append(out, l.DiffID)
				}
			}
		}
	}
	return out, nil
}

// minCompact is the size in bytes below which a journal is not rewritten.
const minCompact = 1 << 20

// Commit writes what is new into the journal, and syncs nothing: after a power loss a torn tail is cut
// off. Once most of the journal is dead it is rewritten.
func (c *Cache) Commit() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded || len(c.pending) == 0 {
		return nil
	}
	if err := c.append(); err != nil {
		return fmt.Errorf("write the build cache: %w", err)
	}
	if c.end > minCompact && c.lines > 2*c.live() {
		if err := c.rewrite(); err != nil {
			return fmt.Errorf("rewrite the build cache: %w", err)
		}
	}
	return nil
}

// append needs mu held.
func (c *Cache) append() error {
	if c.f == nil {
		f, err := os.OpenFile(c.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		c.f = f
		if err := f.Truncate(c.end); err != nil { // the damaged tail
			return err
		}
	}
	lines := c.pending
	if c.end == 0 {
		lines = append([]byte(journalMagic), lines...)
	}
	if _, err := c.f.WriteAt(lines, c.end); err != nil {
		return err // what was written beyond end is written over, or cut off as damage
	}
	c.end += int64(len(lines))
	c.lines += c.added
	c.pending, c.added = nil, 0
	return nil
}

// live is how many lines the records take. It needs mu held.
func (c *Cache) live() int {
	n := 0
	for _, r := range c.records {
		n += 1 + len(r.Keys) + len(r.Outputs) + len(r.Digests) + len(r.Attributes)
	}
	return n
}

// rewrite needs mu held.
func (c *Cache) rewrite() error {
	b := []byte(journalMagic)
	for _, r := range c.records {
		b = encodeAll(b, r)
	}
	// Durable: otherwise a power loss could leave neither the old journal nor the new one.
	if err := atomicfile.Write(c.path, b, 0o600, atomicfile.Durable); err != nil {
		return err
	}
	f, err := os.OpenFile(c.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_ = c.f.Close() // the file that was replaced
	c.f, c.end, c.lines = f, int64(len(b)), c.live()
	return nil
}

// Close commits what is new and closes the journal.
func (c *Cache) Close() error {
	err := c.Commit()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.f != nil {
		err = errors.Join(err, c.f.Close())
		c.f = nil
	}
	return err
}
