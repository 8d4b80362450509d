package archive

import (
	"errors"
	"io"
	"os"

	"github.com/berth-engine/berth/image/manifest"
)

// maxSpooled is how many bytes of documents an archive may have.
const maxSpooled = 256 << 20

// spool keeps documents in a file without a name, so that many of them take no memory.
type spool struct {
	f    *os.File
	size int64
}

// span is where a document is in the spool.
type span struct{ at, size int64 }

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "archive-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &spool{f: f}, nil
}

func (s *spool) close() error { return s.f.Close() }

// put takes a document to its end.
func (s *spool) put(name string, r io.Reader) (span, error) {
	at := s.size
	n, err := io.Copy(io.NewOffsetWriter(s.f, at), io.LimitReader(r, manifest.MaxSize+1))
	switch {
	case err != nil:
		return span{}, err
	case n > manifest.MaxSize:
		return span{}, invalid("%q has more than the %d bytes that are read of a document", name, manifest.MaxSize)
	case at+n > maxSpooled:
		return span{}, invalid("it has more than %d bytes of documents, where layers are expected", maxSpooled)
	}
	s.size += n
	return span{at, n}, nil
}

func (s *spool) get(p span) ([]byte, error) {
	b := make([]byte, p.size)
	_, err := s.f.ReadAt(b, p.at)
	return b, err
}
