package erofs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/containerd/errdefs"
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
	b := make([]byte, headerSize)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return Header{}, fmt.Errorf("read the header of a layer file: %w", err)
	}
	return decodeHeader(b)
}

// Tar returns the tar inside a layer file, verbatim.
func Tar(f io.ReaderAt) (*io.SectionReader, error) {
	h, err := ReadHeader(f)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, headerSize, h.TarSize), nil
}

// VerifyTar reads the tar inside a layer file and compares its sha256 with want. A difference is of the
// kind errdefs.ErrDataLoss.
func VerifyTar(ctx context.Context, f io.ReaderAt, want digest.Digest) error {
	tar, err := Tar(f)
	if err != nil {
		return err
	}
	hash := sha256.New()
	if err := hashRegion(ctx.Err, hash, tar); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, hash); got != want {
		return fmt.Errorf("the tar inside is %s, not %s: %w", got, want, errdefs.ErrDataLoss)
	}
	return nil
}

// hashRegion hashes all of r, unless stop says that it is no longer wanted. A region that the file does not
// have whole is data loss.
func hashRegion(stop func() error, hash hash.Hash, r *io.SectionReader) error {
	left := r.Size()
	buf := make([]byte, min(left, bufferSize))
	for left > 0 {
		if err := stop(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, buf[:min(left, bufferSize)])
		hash.Write(buf[:n])
		left -= int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("the layer file is cut off: %w", errdefs.ErrDataLoss)
		}
		if err != nil {
			return fmt.Errorf("read the layer file: %w", err)
		}
	}
	return nil
}

// File is an open layer file: *os.File is one.
type File interface {
	io.ReaderAt
	io.Seeker
}

// VerifyMetadata compares what is not tar in a layer file with the digest that Write gave
// (Result.MetadataDigest). A difference is of the kind errdefs.ErrDataLoss.
func VerifyMetadata(f File, want digest.Digest) error {
	h, err := ReadHeader(f)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("find the size of a layer file: %w", err)
	}
	behind := headerSize + h.TarSize
	if size < behind {
		return fmt.Errorf("the layer file is cut off: %w", errdefs.ErrDataLoss)
	}
	hash := sha256.New()
	for _, r := range []*io.SectionReader{io.NewSectionReader(f, 0, headerSize), io.NewSectionReader(f, behind, size-behind)} {
		if err := hashRegion(func() error { return nil }, hash, r); err != nil {
			return err
		}
	}
	if got := digest.NewDigest(digest.SHA256, hash); got != want {
		return fmt.Errorf("the metadata of a layer file is %s, not %s: %w", got, want, errdefs.ErrDataLoss)
	}
	return nil
}
