package content

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

var errNotBuilt = errors.New("content: not built yet")

// Store is a directory of blobs. Its methods may be called at the same time.
type Store struct {
	root string
}

// Info describes a blob.
type Info struct {
	Digest  digest.Digest
	Size    int64 // bytes
	Created time.Time
}

// Open opens the store in the directory root, which is made where it is not there, and removes what
// earlier writers left unfinished, except what Resume can still use (younger than a day). One process
// may have a root open at a time; that is the caller's to see to.
func Open(root string) (*Store, error) { return nil, errNotBuilt }

// Put stores what r gives, verifies that its digest is want, and returns its size in bytes. A blob that
// is there already is left alone and r is not read. A digest that differs is of the kind
// errdefs.ErrFailedPrecondition.
func (s *Store) Put(ctx context.Context, want digest.Digest, r io.Reader) (int64, error) {
	return 0, errNotBuilt
}

// Create begins a blob of which the digest is not known yet. The caller ends it with Commit or Abort.
func (s *Store) Create(ctx context.Context) (*Writer, error) { return nil, errNotBuilt }

// Resume begins the blob want, or goes on with it where an earlier Resume of it was left (Suspend, or the
// end of the process): Size says how many bytes are there. One writer of a digest exists at a time; a
// second gets an error of the kind errdefs.ErrUnavailable.
func (s *Store) Resume(ctx context.Context, want digest.Digest) (*Writer, error) {
	return nil, errNotBuilt
}

// Open opens a blob for reading; errdefs.ErrNotFound where it is not there. The caller closes it.
func (s *Store) Open(dgst digest.Digest) (*Blob, error) { return nil, errNotBuilt }

// Info describes a blob; errdefs.ErrNotFound where it is not there.
func (s *Store) Info(dgst digest.Digest) (Info, error) { return Info{}, errNotBuilt }

// Verify reads a blob and compares it with its name; errdefs.ErrDataLoss where it differs.
func (s *Store) Verify(ctx context.Context, dgst digest.Digest) error { return errNotBuilt }

// Delete removes a blob, durably; errdefs.ErrNotFound where it is not there. Who has it open goes on
// reading.
func (s *Store) Delete(dgst digest.Digest) error { return errNotBuilt }

// Walk calls fn for each blob, in no order, until it returns an error, which Walk returns.
func (s *Store) Walk(ctx context.Context, fn func(Info) error) error { return errNotBuilt }

// Writer writes a blob that nobody can name before Commit. It is for one goroutine.
type Writer struct{}

// Write appends.
func (w *Writer) Write(p []byte) (int, error) { return 0, errNotBuilt }

// Size is the number of bytes that are there.
func (w *Writer) Size() int64 { return 0 }

// Truncate throws away what is there: the source could not go on at Size.
func (w *Writer) Truncate() error { return errNotBuilt }

// Digest is the sha256 of what is there.
func (w *Writer) Digest() digest.Digest { return "" }

// Commit makes the blob durable and then gives it its name. want may be "" (of a writer of Create):
// then the blob has the digest that its bytes have. When the digest differs from want, the bytes are
// thrown away and the error is of the kind errdefs.ErrFailedPrecondition. The writer is ended.
func (w *Writer) Commit(ctx context.Context, want digest.Digest) (Info, error) {
	return Info{}, errNotBuilt
}

// Suspend ends the writer and keeps what is there for a later Resume (of a writer of Create: as Abort).
// After Commit or Abort it does nothing.
func (w *Writer) Suspend() error { return errNotBuilt }

// Abort ends the writer and throws away what is there. After Commit or Suspend it does nothing.
func (w *Writer) Abort() error { return errNotBuilt }

// Blob is a blob open for reading.
type Blob struct {
	io.ReaderAt
	io.Closer
	size int64
}

// Size in bytes.
func (b *Blob) Size() int64 { return b.size }

// Reader reads the whole blob from its beginning; several can be in use at once.
func (b *Blob) Reader() *io.SectionReader { return io.NewSectionReader(b.ReaderAt, 0, b.size) }
