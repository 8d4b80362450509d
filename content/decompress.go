package content

import "io"

// Compression of a blob, as its first bytes tell. Media types are not believed.
type Compression string

// The compressions that Decompress knows.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// Decompress looks at the first bytes of r and returns what they and the rest decompress to. Damage and
// a stream that ends too early are errors of the kind errdefs.ErrDataLoss from Read. The caller closes
// the reader (which stops its workers; r is not closed), before or after its end.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) { return nil, "", errNotBuilt }
