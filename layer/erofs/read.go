package erofs

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
)

// Header is what a layer file says of itself. It is inside of what VerifyMetadata checks.
type Header struct {
	Version int
	DiffID  digest.Digest
	TarSize int64 // bytes
}

// ReadHeader reads the header of a layer file. What is not one, or one whose writing was not finished,
// gives an error of the kind errdefs.ErrDataLoss.
func ReadHeader(f io.ReaderAt) (Header, error) {
	return Header{}, errors.New("layer/erofs: not built yet")
}

// Tar returns the tar inside a layer file, verbatim.
func Tar(f io.ReaderAt) (*io.SectionReader, error) {
	return nil, errors.New("layer/erofs: not built yet")
}

// VerifyTar reads the tar inside the layer file of the given size and compares its sha256 with want. A
// difference is of the kind errdefs.ErrDataLoss.
func VerifyTar(ctx context.Context, f io.ReaderAt, want digest.Digest) error {
	return errors.New("layer/erofs: not built yet")
}

// File is an open layer file: *os.File is one.
type File interface {
	io.ReaderAt
	io.Seeker
}

// VerifyMetadata compares what is not tar in a layer file with the digest that Write gave
// (Result.MetadataDigest). A difference is of the kind errdefs.ErrDataLoss.
func VerifyMetadata(f File, want digest.Digest) error {
	return errors.New("layer/erofs: not built yet")
}
