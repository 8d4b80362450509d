package content

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression of a blob, as its first bytes tell. Media types are not believed.
type Compression string

// The compressions that Decompress knows.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// magic numbers (RFC 1952, section 2.3.1; RFC 8878, section 3.1.1).
var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// zstdMemory bounds the window that a zstd frame may ask for, in bytes.
const zstdMemory = 256 << 20

// Decompress looks at the first bytes of r and returns what they and the rest decompress to. Damage and
// a stream that ends too early are errors of the kind errdefs.ErrDataLoss from Read. The caller closes
// the reader (which stops its workers; r is not closed), before or after its end.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(len(zstdMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, "", damaged{err}
		}
		return &decompressed{z, func() { _ = z.Close() }}, Gzip, nil // it says again what Read has said
	case bytes.HasPrefix(head, zstdMagic):
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(zstdMemory))
		if err != nil {
			return nil, "", damaged{err}
		}
		return &decompressed{z, z.Close}, Zstd, nil
	}
	return io.NopCloser(in), None, nil
}

// damaged is an error of the compressed stream.
type damaged struct{ err error }

func (d damaged) Error() string { return fmt.Sprintf("the compressed data is damaged: %v", d.err) }
func (d damaged) Unwrap() error { return d.err }

// Is makes it errdefs.ErrDataLoss.
func (d damaged) Is(target error) bool { return target == errdefs.ErrDataLoss }

type decompressed struct {
	r     io.Reader
	close func()
}

func (d *decompressed) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		err = damaged{err}
	}
	return n, err
}

func (d *decompressed) Close() error {
	d.close()
	return nil
}
