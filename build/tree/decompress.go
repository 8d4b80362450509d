package tree

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz"

	"github.com/berth-engine/berth/content"
)

// Decompress looks at the first bytes of r and returns what they and the rest decompress to: gzip,
// zstd, bzip2 and xz, which are what ADD unpacks, or r itself. The caller closes the reader.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case len(magic) >= 3 && string(magic[:3]) == "BZh":
		return io.NopCloser(bzip2.NewReader(b)), nil
	case string(magic) == "\xfd7zXZ\x00":
		x, err := xz.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("xz: %w", err)
		}
		return io.NopCloser(x), nil
	}
	plain, _, err := content.Decompress(b)
	return plain, err
}
