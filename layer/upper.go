package layer

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
)

// Upper is the writable directory of one container or build step. Its methods follow no link out of
// it and open nothing but regular files and directories.
type Upper struct{}

// NewUpper makes dir (which must not exist; its parent must) an upper: dir/upper and dir/work for overlayfs, on a file
// system that can hold overlay's uppers. Owner, mode and xattrs of the root are set at the first Mount.
func (s *Store) NewUpper(dir string) (*Upper, error) { return nil, errNotBuilt }

// OpenUpper opens what NewUpper made. The error is errdefs.ErrNotFound where there is none.
func (s *Store) OpenUpper(dir string) (*Upper, error) { return nil, errNotBuilt }

// Dir is the directory that NewUpper made.
func (u *Upper) Dir() string { return "" }

// DiffOptions are what a diff leaves out.
type DiffOptions struct {
	// MountPoints are paths (in the container, absolute) that the engine made in order to mount on
	// them. Where the stack below has none of the name and the upper's is still empty, it is left
	// out, and so is its parent where nothing else changed there; else the parent's times are put back.
	MountPoints []string
}

// Settle brings the upper to what its layer will say: whole-second times, no sockets, no attributes of
// overlayfs but the ones that hide something below, no mount points. It must be unmounted, and st the stack that it was
// mounted on.
func (u *Upper) Settle(ctx context.Context, st *Stack, o DiffOptions) error { return errNotBuilt }

// WriteTar writes the upper as a layer's tar: sorted, PAX, whole-second times, whiteouts as ".wh."
// files, opaque marks only for directories that st has too. Equal uppers give equal bytes. It changes
// nothing in the upper, which may be mounted and in use: a file that grows meanwhile is cut at the
// size that it had, one that shrinks is filled with zeros.
func (u *Upper) WriteTar(ctx context.Context, st *Stack, w io.Writer, o DiffOptions) error {
	return errNotBuilt
}

// Became says that the upper's content is the layer diffID, so that uppers made on it are also at
// home on stacks that have the layer in its place.
func (u *Upper) Became(diffID digest.Digest) {}

// ChangeKind is the letter of `docker diff`.
type ChangeKind byte

// What can have happened to a path.
const (
	Added   ChangeKind = 'A'
	Changed ChangeKind = 'C'
	Deleted ChangeKind = 'D'
)

// Change is one path in which an upper differs from the stack below.
type Change struct {
	Path string // absolute
	Kind ChangeKind
}

// Changes lists in which paths the upper differs from st, sorted by path, as `docker diff` does. The upper may be in use.
func (u *Upper) Changes(ctx context.Context, st *Stack, o DiffOptions) ([]Change, error) {
	return nil, errNotBuilt
}

// Size is the sum of the sizes in bytes of the regular files in the upper, hard links counted once.
// The upper may be in use.
func (u *Upper) Size(ctx context.Context) (int64, error) { return 0, errNotBuilt }

// Destroy deletes the upper's directory, whatever of it is there. It is idempotent. The upper must be unmounted.
func (u *Upper) Destroy() error { return errNotBuilt }
