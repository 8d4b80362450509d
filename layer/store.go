package layer

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// Form is how the kernel is given a layer.
type Form string

const (
	// Auto takes the first of the others that works here, in their order.
	Auto Form = ""
	// Direct mounts the layer file itself (Linux 6.12 and later; not from tmpfs or an overlay).
	Direct Form = "direct"
	// Loop mounts the layer file through a read-only loop device.
	Loop Form = "loop"
	// Dir unpacks the layer into a directory beside its file. It costs the disk twice.
	Dir Form = "dir"
)

// Options say where a Store lives.
type Options struct {
	// Root is the directory of layer files and records; made where it is missing. One engine at a
	// time may have it.
	Root string
	// ExecRoot is the directory below which layers are mounted; made (mode 0700) where it is missing.
	ExecRoot string
	// Form is the storage form.
	Form Form
}

// Store is a set of layers on disk, and their mounts. All its methods may be called concurrently.
type Store struct{}

var errNotBuilt = errors.New("package layer: not built yet")

// Open opens the store, makes its directories and sweeps what a killed engine left half-written.
// It mounts nothing and asks the kernel nothing. ctx is for Open only. The caller closes the store.
func Open(ctx context.Context, o Options) (*Store, error) { return nil, errNotBuilt }

// Close unmounts the layers that no stack pins and waits for work in the background. The others stay
// mounted (their containers go on) and are found again by the next Open on the same exec root.
func (s *Store) Close() error { return errNotBuilt }

// Put stores the layer whose uncompressed tar is read from tar, up to its end. With want, a tar that
// has another digest is refused (errdefs.ErrInvalidArgument) and nothing is kept; where want is here already, Put
// returns without reading. When it returns, the layer is verified and durable.
func (s *Store) Put(ctx context.Context, tar io.Reader, want digest.Digest) (Layer, error) {
	return Layer{}, errNotBuilt
}

// Get returns the layer. The error is errdefs.ErrNotFound where it is not here, and
// errdefs.ErrDataLoss where its record is damaged (Repair may help).
func (s *Store) Get(diffID digest.Digest) (Layer, error) { return Layer{}, errNotBuilt }

// List returns all layers, sorted by diffID. Those that cannot be read are left out and named by the
// error: a list beside an error is good as far as it goes.
func (s *Store) List() ([]Layer, error) { return nil, errNotBuilt }

// Remove deletes layers; those that are not here are no error. Where a stack pins one of them, the
// error is errdefs.ErrConflict and nothing is removed. Many at once cost one sync.
func (s *Store) Remove(ctx context.Context, diffIDs ...digest.Digest) error { return errNotBuilt }

// Tar returns the layer's tar, byte for byte as it was put. The caller closes it.
func (s *Store) Tar(diffID digest.Digest) (io.ReadCloser, error) { return nil, errNotBuilt }

// Verify reads the whole layer and compares tar and metadata with their digests. The error is
// errdefs.ErrDataLoss where one differs.
func (s *Store) Verify(ctx context.Context, diffID digest.Digest) error { return errNotBuilt }

// Repair makes record and metadata anew from the tar, where the tar is still whole. Where it is not,
// the error is errdefs.ErrDataLoss and the layer must be fetched again. A layer that a stack pins is not touched:
// errdefs.ErrConflict.
func (s *Store) Repair(ctx context.Context, diffID digest.Digest) error { return errNotBuilt }

// ReleaseIdle unmounts the layers that no stack has pinned for the given time, and returns how many.
// What they had in the page cache goes with the mount.
func (s *Store) ReleaseIdle(ctx context.Context, idle time.Duration) (int, error) {
	return 0, errNotBuilt
}

// Info says how layers are mounted here.
type Info struct {
	// Form is the storage form in use.
	Form Form
	// DirectIO is true where the page cache holds what is read from layers once, not twice.
	DirectIO bool
	// Overlay is how lower layers are named to overlayfs: "descriptor", "lowerdir+" or "lowerdir".
	Overlay string
	// MaxLayers is the number of layers that overlayfs takes; the lowest of deeper stacks are merged.
	MaxLayers int
	// Mounted and Pinned count layers.
	Mounted, Pinned int
	// Notes say in a sentence each why a better form is not in use, and what the one in use costs.
	Notes []string
}

// Info asks the kernel what it takes (once) and returns what is in use.
func (s *Store) Info(ctx context.Context) (Info, error) { return Info{}, errNotBuilt }
