package build

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/layer"
)

// Options say what a Builder stands on.
type Options struct {
	Root     string // directory of its own, below the data root; made if missing
	Layers   *layer.Store
	Images   Images
	Executor Executor
	Platform ocispec.Platform // of the engine
	Log      *slog.Logger
}

// Builder builds images. Several builds may run at a time.
type Builder struct{}

// Open returns a Builder. It reads nothing that costs time: the cache is loaded by the first build.
func Open(ctx context.Context, opts Options) (*Builder, error) { return &Builder{}, nil }

// Close cancels what is running and waits for it.
func (b *Builder) Close() error { return nil }

// Build builds an image. Errors are of errdefs' kinds: ErrInvalidArgument for a Dockerfile or request
// that is wrong, ErrNotFound for an image or file that is missing; a RUN that failed is an
// *ExitError. ctx ends the build; steps that other builds wait for go on.
func (b *Builder) Build(ctx context.Context, req Request) (Result, error) {
	return Result{}, errors.New("build: not built yet")
}

// Layers lists the layers that the cache may still need: they are roots when layers are deleted.
func (b *Builder) Layers(ctx context.Context) ([]digest.Digest, error) { return nil, nil }

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

// Usage says what is kept.
func (b *Builder) Usage(ctx context.Context) (Usage, error) { return Usage{}, nil }

// PruneOptions say what to throw away.
type PruneOptions struct {
	All       bool          // cache mounts and records whose layers an image uses, too
	OlderThan time.Duration // only what was not used for so long
}

// Prune forgets records and deletes what nobody needs; layers that only the cache held are the
// caller's to delete afterwards (they are no longer in Layers). It returns the bytes that it freed.
func (b *Builder) Prune(ctx context.Context, opts PruneOptions) (int64, error) { return 0, nil }
