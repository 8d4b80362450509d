package build

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/build/cache"
)

// Usage is what the builder keeps, for `system df`.
type Usage struct {
	Records int
	Bytes   int64 // contexts and cache mounts; layers are counted by the layer store
	Entries []Entry
}

// Entry is one thing that the builder keeps.
type Entry struct {
	ID          string
	Type        string // "regular", "source.local", "exec.cachemount"
	Description string
	Bytes       int64
	InUse       bool
	Created     time.Time
	LastUsed    time.Time
}

// Usage says what is kept. The size of a "regular" one is that of its own layer.
func (b *Builder) Usage(ctx context.Context) (Usage, error) {
	ctx, leave, err := b.enter(ctx)
	if err != nil {
		return Usage{}, err
	}
	defer leave()
	records, err := b.cache.Records()
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Records: len(records)}
	for _, r := range records {
		u.Entries = append(u.Entries, Entry{
			ID: hex.EncodeToString(r.ID[:]), Type: "regular", Description: r.Description, Bytes: b.ownLayer(r), Created: r.Created, LastUsed: r.Used,
		})
	}
	mounts, err := b.solver.CacheMounts(ctx)
	if err != nil {
		return Usage{}, err
	}
	for _, m := range mounts {
		u.Bytes += m.Bytes
		u.Entries = append(u.Entries, Entry{ID: m.Dir, Type: "exec.cachemount", Description: m.Name, Bytes: m.Bytes, InUse: m.InUse, Created: m.Used, LastUsed: m.Used})
	}
	n, err := b.contexts.Contents.Size()
	if err != nil {
		return Usage{}, err
	}
	if n > 0 {
		info, err := os.Stat(filepath.Join(b.opts.Root, contextsDir))
		if err != nil {
			return Usage{}, err
		}
		u.Bytes += n
		u.Entries = append(u.Entries, Entry{ID: "contexts", Type: "source.local", Description: "files of build contexts", Bytes: n, Created: info.ModTime()})
	}
	return u, nil
}

// ownLayer is the size of the topmost layer of a record's first output.
func (b *Builder) ownLayer(r *cache.Record) int64 {
	layers := r.Outputs[0]
	if len(layers) == 0 || layers[len(layers)-1].Created.IsZero() {
		return 0
	}
	l, err := b.opts.Layers.Get(layers[len(layers)-1].DiffID)
	if err != nil {
		return 0
	}
	return l.Size
}

// PruneOptions say what to throw away.
type PruneOptions struct {
	All       bool                     // what images stand on, too: they stay, but are built from the beginning the next time
	OlderThan time.Duration            // only what was not used for so long
	InImage   func(digest.Digest) bool // tells whether an image has a layer; nil: none has
}

// spares tells whether a record stays without All: the result of its step is in an image (BuildKit calls it shared),
// or it takes no room and was of use not long ago.
func (o PruneOptions) spares(r *cache.Record) bool {
	if o.All {
		return false
	}
	results := 0
	for _, layers := range r.Outputs {
		if len(layers) == 0 {
			continue
		}
		if results++; o.InImage != nil && o.InImage(layers[len(layers)-1].DiffID) {
			return true
		}
	}
	return results == 0 && time.Since(r.Used) < weightlessFor
}

// weightlessFor is for how long records without layers stay: they tell what others stand on.
const weightlessFor = 7 * 24 * time.Hour

// Prune forgets records and deletes contexts' files and cache mounts that are not in use. It returns the bytes that it
// freed, and the layers that the records named, which are the caller's to delete where nothing else names them, also
// after an error. A cache mount that can't be deleted is no error.
func (b *Builder) Prune(ctx context.Context, opts PruneOptions) (freed int64, layers []digest.Digest, err error) {
	ctx, leave, err := b.enter(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer leave()
	since := b.solver.Since() // what builds that run stand on stays
	before := time.Now().Add(-opts.OlderThan)
	if opts.OlderThan == 0 {
		before = time.Now().Add(time.Hour) // records are dated to the hour
	}
	mounts, err := b.solver.PruneCacheMounts(ctx, before)
	if err != nil {
		return mounts, nil, err
	}
	contexts, failed := b.contexts.Contents.Prune(before, 0)
	records, err := b.cache.Records()
	if err != nil {
		return mounts + contexts, nil, errors.Join(failed, err)
	}
	var old []cache.ID
	for _, r := range records {
		if r.Used.Before(before) && !opts.spares(r) {
			old = append(old, r.ID)
		}
	}
	layers = b.cache.Forget(since, old...)
	return mounts + contexts, layers, errors.Join(failed, b.cache.Commit())
}
