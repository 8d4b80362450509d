package archive

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/content"
)

// Layer is one layer: its bytes as they are in an archive (Blob), and the digest of the uncompressed tar.
type Layer struct {
	Blob   ocispec.Descriptor
	DiffID digest.Digest
}

// Target takes what Read finds. Nothing that was put is named by anything until Read has returned: the
// Target keeps it from being collected meanwhile.
type Target interface {
	// FindLayer returns the layer whose blob has this digest, if it is here; then the archive's copy is
	// passed over.
	FindLayer(ctx context.Context, blob digest.Digest) (Layer, bool, error)
	// AddLayer stores a layer from the bytes of its blob, compressed by whatever the first bytes say,
	// and says what it is. It reads r to its end. That is io.EOF only if the digest is the one
	// announced; any other error means that nothing may be kept.
	AddLayer(ctx context.Context, r io.Reader) (Layer, error)
	// PutBlob stores an index, a manifest or a config, already verified.
	PutBlob(ctx context.Context, desc ocispec.Descriptor, data []byte) error
}

// ReadOptions configure Read.
type ReadOptions struct {
	// TempDir is where documents are spooled, in a file without a name; "" means os.TempDir().
	TempDir string
	// Platform chooses from indexes; nil chooses what runs best on this machine.
	Platform *ocispec.Platform
	// Progress is told of the layers; nil for silence.
	Progress func(Event)
}

// Event tells of a layer that passes: Current of Total bytes have been read. The last one of a layer
// says Done. They come at most ten times a second for a layer, beside the first and the last.
type Event struct {
	Name           string // of the entry
	Current, Total int64
	Done           bool
}

// Image is one image that was read.
type Image struct {
	// Tags are the names that the archive gives it; there may be none.
	Tags []reference.NamedTagged
	// Ref describes what the tag pointed at where the archive came from: an index, or Manifest.
	Ref ocispec.Descriptor
	// Manifest describes the image's manifest. An archive without one (manifest.json only) gets an OCI
	// manifest of its layers as they are in the archive.
	Manifest ocispec.Descriptor
	// Config describes the configuration; its digest is the image's ID.
	Config   ocispec.Descriptor
	Layers   []Layer
	Platform ocispec.Platform
}

// Read puts the images of an archive into dst. The archive may be compressed (by gzip or zstd). Where
// it is no archive of images, or a damaged or hostile one, the error is errdefs.ErrInvalidArgument or
// ErrDataLoss and a sentence; layers that were put by then have no name, and go when the Target lets go.
func Read(ctx context.Context, r io.Reader, opts ReadOptions, dst Target) (_ []Image, err error) {
	plain, err := decompressed(r)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	docs, err := newSpool(opts.TempDir)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	defer func() { err = errors.Join(err, docs.close()) }()
	c := newContents(docs)
	if err := c.read(ctx, plain, opts, dst); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	images, err := c.images(ctx, opts.Platform, dst)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return images, nil
}

// decompressed undoes the compression of the archive as a whole.
func decompressed(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	start, err := buffered.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	for name, magic := range map[string][]byte{"bzip2": []byte("BZh"), "xz": {0xfd, '7', 'z', 'X', 'Z', 0}} {
		if bytes.HasPrefix(start, magic) {
			return nil, invalid("it is compressed by %s, which is not read: decompress it first", name)
		}
	}
	if isGzip(start) || isZstd(start) {
		plain, _, err := content.Decompress(buffered)
		return plain, err
	}
	return io.NopCloser(buffered), nil
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func damaged(format string, args ...any) error {
	return errdefs.ErrDataLoss.WithMessage(fmt.Sprintf(format, args...))
}
