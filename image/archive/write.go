package archive

import (
	"context"
	"io"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source gives what Write stores.
type Source interface {
	// Open returns the bytes of desc, an index, manifest, config or layer blob, from the beginning;
	// Write closes them. What is not here is errdefs.ErrNotFound.
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Named is an image to write: a manifest or an index, and the names that it has in the archive (none
// is allowed). Of an index, the children that are here are written.
type Named struct {
	Root ocispec.Descriptor
	Tags []reference.NamedTagged
}

// Write writes images as one tar: an OCI image layout with Docker's manifest.json and repositories
// beside it, so that docker, podman and skopeo load it. The same images give the same bytes.
func Write(ctx context.Context, w io.Writer, images []Named, src Source) error {
	return errNotBuilt
}
