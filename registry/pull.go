package registry

import (
	"context"
	"io"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var errNotBuilt = errdefs.ErrNotImplemented.WithMessage("the registry client is not built yet")

// Target takes what Pull fetches. Its methods are called from several goroutines. Nothing that was put
// is named by anything until Pull has returned: the Target keeps it from being collected meanwhile.
type Target interface {
	// HasLayer says whether the layer is here and needs not be fetched. blob describes its bytes in the
	// registry, diffID names the uncompressed tar.
	HasLayer(ctx context.Context, blob ocispec.Descriptor, diffID digest.Digest) (bool, error)
	// PutLayer stores a layer from its bytes as they come from the registry, compressed by whatever
	// their first bytes say. The end of compressed is io.EOF only if size and digest are blob's, any
	// other error means that nothing may be kept; so it reads up to io.EOF before it makes anything
	// permanent. It checks that the uncompressed bytes have diffID. Layers are put at the same time and
	// in no order; the same blob is put once.
	PutLayer(ctx context.Context, blob ocispec.Descriptor, diffID digest.Digest, compressed io.Reader) error
	// PutBlob stores an index, a manifest or a config, already verified.
	PutBlob(ctx context.Context, desc ocispec.Descriptor, data []byte) error
}

// PullOptions say what of an image is wanted.
type PullOptions struct {
	// Platform chooses from an index and must be the image's. nil chooses what runs best on this
	// machine, and takes an image that is there for one platform only, whichever that is.
	Platform *ocispec.Platform
	// Progress is told of each step; nil for silence. It is called by one goroutine at a time.
	Progress func(Event)
}

// Image is what a registry has under a reference for one platform, without the bytes of the layers.
type Image struct {
	// Ref is what the reference points at: an index or Manifest itself. Its digest is the RepoDigest.
	Ref ocispec.Descriptor
	// Index is the bytes of the index that Ref describes; nil where there is none.
	Index []byte
	// Manifest describes the manifest of the platform.
	Manifest      ocispec.Descriptor
	ManifestBytes []byte
	// Config describes the image's configuration; its digest is the image's ID.
	Config      ocispec.Descriptor
	ConfigBytes []byte
	// Layers, bottom first, as the manifest has them.
	Layers []Layer
	// Platform is what the configuration says that the image is for.
	Platform ocispec.Platform
}

// Layer is a layer as a registry has it.
type Layer struct {
	Blob   ocispec.Descriptor
	DiffID digest.Digest
}

// Inspect fetches everything of an image but its layers.
func (c *Client) Inspect(ctx context.Context, ref reference.Named, opts PullOptions) (*Image, error) {
	return nil, errNotBuilt
}

// Pull fetches an image into dst. A reference with a tag is resolved once, and fetched by digest from
// then on; one with neither tag nor digest means the tag "latest". When it returns without an error,
// index, manifest, config and every layer are in dst; to give them a name is the caller's.
//
// Errors are written to be shown, and have the kinds of errdefs: ErrNotFound (no such image, tag or
// platform, or it may need a login), ErrUnauthenticated (wrong password), ErrPermissionDenied,
// ErrUnavailable (registry not reached, or out of order), ErrResourceExhausted (rate limits),
// ErrDataLoss (digest or length differ), ErrInvalidArgument (something that is no image).
func (c *Client) Pull(ctx context.Context, ref reference.Named, opts PullOptions, dst Target) (*Image, error) {
	return nil, errNotBuilt
}
