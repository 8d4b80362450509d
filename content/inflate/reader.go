package inflate

import (
	"errors"
	"io"
)

// Options of a Reader.
type Options struct {
	// Workers is the number of goroutines that decode at a time; 0 means one a CPU, at most 8. With 1
	// decoding is serial and needs about 1 MiB; each worker more needs some 20 MiB.
	Workers int
}

// NewReader returns a reader of what the gzip stream r decompresses to: all members, one after the other.
// It reads r's header before it returns. Read gives io.ErrUnexpectedEOF (wrapped) where the stream ends
// too early, and *CorruptError where it is damaged. The caller closes the reader, before or after its end; r is not closed.
func NewReader(r io.Reader, opts Options) (io.ReadCloser, error) {
	return nil, errors.New("content/inflate: not built yet")
}
