package registry

import (
	"context"
	"io"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source gives what Push stores. Its methods are called from several goroutines.
type Source interface {
	// Open returns the bytes of a blob or manifest, from the beginning; Push closes them. It is called
	// again where an upload has to start again. What is not here is errdefs.ErrNotFound; that is no
	// failure where the registry has it already, or in a repository of Repositories.
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// Repositories names repositories that are known to have the blob. Those on the registry that is
	// pushed to are asked to share it.
	Repositories(ctx context.Context, desc ocispec.Descriptor) []reference.Named
}

// PushOptions configure a Push.
type PushOptions struct {
	// Progress is told of each step; nil for silence. It is called by one goroutine at a time.
	Progress func(Event)
}

// MissingError says that something below the manifest or index that was to be pushed is neither in
// the Source nor in the registry. Its kind is errdefs.ErrNotFound.
type MissingError struct {
	Descriptor ocispec.Descriptor
	Repository string
}

func (e *MissingError) Error() string {
	return "push to " + e.Repository + ": " + e.Descriptor.MediaType + " " + e.Descriptor.Digest.String() +
		" is neither on this machine nor in the registry"
}

// NotFound makes it errdefs.ErrNotFound.
func (e *MissingError) NotFound() {}

// Push stores root, a manifest or an index, and everything below it, and makes the tag of ref point at
// it; a reference without a tag means "latest", one with a digest is refused. Blobs go before the
// manifests that name them, manifests before an index, the tag last. The bytes are the Source's, so the
// digest is root's. Errors are as Pull's, and *MissingError.
func (c *Client) Push(ctx context.Context, ref reference.Named, root ocispec.Descriptor, src Source, opts PushOptions) error {
	return errNotBuilt
}
