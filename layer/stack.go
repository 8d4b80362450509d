package layer

import (
	"context"
	"os"

	"github.com/opencontainers/go-digest"
)

// Stack is a pinned list of layers that can be mounted as one file system. Until Release, its layers
// stay mounted and cannot be removed.
type Stack struct{}

// Stack pins the layers, bottom first as an image config lists them, and mounts those that are not
// mounted yet, each after its metadata has been verified. No layers at all are an empty file system.
// The error is errdefs.ErrNotFound where a layer is missing, errdefs.ErrDataLoss where one is damaged. The caller releases.
func (s *Store) Stack(ctx context.Context, diffIDs []digest.Digest) (*Stack, error) {
	return nil, errNotBuilt
}

// On returns the stack with finished uppers on top, the lowest first: steps of a build whose layers
// are not written yet. Each must be settled, unmounted and made on just what is below it here; a
// Stack on which that is not so fails to mount. It pins for itself: both stacks are to be released.
func (st *Stack) On(uppers ...*Upper) *Stack { return nil }

// DiffIDs returns the layers, bottom first, without uppers put on by On.
func (st *Stack) DiffIDs() []digest.Digest { return nil }

// ChainID returns the name of the layers, without uppers put on by On.
func (st *Stack) ChainID() digest.Digest { return "" }

// Release unpins the layers. Mounts made of the stack go on working. A second Release does nothing.
func (st *Stack) Release() {}

// MountOptions are how a stack is mounted.
type MountOptions struct {
	// ReadOnly makes the mount read-only although it has an upper.
	ReadOnly bool
	// Volatile leaves out every sync of the upper: for containers that go with their exit (--rm) and
	// for steps of a build. After a power loss such an upper is refused.
	Volatile bool
	// No64 keeps inode numbers within 32 bits: for images of 32-bit platforms. Files and directories may then
	// differ in st_dev.
	No64 bool
}

// Mount mounts the stack, with u on top, and returns a descriptor of the detached mount: attach it
// with move_mount(2) or send it to who will. Closing the descriptor unmounts what was not attached.
// With u == nil the mount is a read-only view. An upper belongs to the stack that it was first
// mounted on: any other is refused (errdefs.ErrFailedPrecondition). Two mounts of one upper at a
// time are undefined: the caller sees to it.
func (st *Stack) Mount(ctx context.Context, u *Upper, o MountOptions) (*os.File, error) {
	return nil, errNotBuilt
}
