package content

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/atomicfile"
)

// Store is a directory of blobs. Its methods may be called at the same time.
type Store struct {
	root string

	background sync.WaitGroup
	freeing    chan struct{} // one for each batch of Delete whose files are held
}

// Info describes a blob.
type Info struct {
	Digest  digest.Digest
	Size    int64 // bytes
	Created time.Time
}

// Open opens the store in the directory root, which is made where it is not there, and removes what
// earlier writers left unfinished. One process may have a root open at a time; that is the caller's to see
// to. The caller closes the store.
func Open(root string) (*Store, error) {
	s := &Store{root: root, freeing: make(chan struct{}, freeBatches)}
	for _, dir := range []string{s.blobs(), s.incoming()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("content store: %w", err)
		}
	}
	entries, err := os.ReadDir(s.incoming())
	if err != nil {
		return nil, fmt.Errorf("content store: %w", err)
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(s.incoming(), e.Name())); err != nil && !errors.Is(err, unix.EROFS) {
			return nil, fmt.Errorf("content store: sweep: %w", err)
		}
	}
	return s, nil
}

// Close waits for what runs in the background. No method is called after it.
func (s *Store) Close() { s.background.Wait() }

func (s *Store) blobs() string    { return filepath.Join(s.root, "blobs", "sha256") }
func (s *Store) incoming() string { return filepath.Join(s.root, "incoming") }

// path is a blob's file. A digest of another kind than sha256 names nothing here.
func (s *Store) path(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("digest %q is not a sha256: %w", d, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(s.blobs(), d.Encoded()), nil
}

// Put stores what r gives, verifies that its digest is want, and returns its size in bytes. A blob that
// is there already is left alone and r is not read. A digest that differs is of the kind
// errdefs.ErrFailedPrecondition.
func (s *Store) Put(ctx context.Context, want digest.Digest, r io.Reader) (int64, error) {
	if info, err := s.Info(want); !errdefs.IsNotFound(err) {
		return info.Size, err
	}
	w, err := s.Create(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(w, r); err != nil {
		return 0, errors.Join(fmt.Errorf("store blob %s: %w", want, err), w.Abort())
	}
	info, err := w.Commit(ctx, want)
	return info.Size, err
}

// Create begins a blob of which the digest is not known yet. The caller ends it with Commit or Abort.
func (s *Store) Create(context.Context) (*Writer, error) {
	f, err := os.CreateTemp(s.incoming(), "new-")
	if err != nil {
		return nil, fmt.Errorf("store blob: %w", err)
	}
	return &Writer{store: s, file: f, hash: sha256.New()}, nil
}

// Open opens a blob for reading; errdefs.ErrNotFound where it is not there. The caller closes it.
func (s *Store) Open(dgst digest.Digest) (*Blob, error) {
	path, err := s.path(dgst)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, missing(dgst, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Blob{ReaderAt: f, Closer: f, size: info.Size()}, nil
}

func missing(d digest.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s is not here: %w", d, errdefs.ErrNotFound)
	}
	return err
}

// Info describes a blob; errdefs.ErrNotFound where it is not there.
func (s *Store) Info(dgst digest.Digest) (Info, error) {
	path, err := s.path(dgst)
	if err != nil {
		return Info{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return Info{}, missing(dgst, err)
	}
	return Info{dgst, info.Size(), info.ModTime()}, nil
}

// Verify reads a blob and compares it with its name; errdefs.ErrDataLoss where it differs.
func (s *Store) Verify(ctx context.Context, dgst digest.Digest) error {
	b, err := s.Open(dgst)
	if err != nil {
		return err
	}
	defer b.Close()
	h := sha256.New()
	if _, err := io.Copy(h, contextReader{ctx, b.Reader()}); err != nil {
		return fmt.Errorf("verify blob %s: %w", dgst, err)
	}
	if got := sum(h); got != dgst {
		return fmt.Errorf("blob %s is damaged: its bytes have the digest %s: %w", dgst, got, errdefs.ErrDataLoss)
	}
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// Delete removes blobs, durably, and returns which there were; those that are not here are no error, and
// one that can't be removed does not keep the others. Many at once cost one sync. Who has one open goes on
// reading. When it returns the blobs are gone for good; the space of their files is given back shortly
// afterwards (ext4 takes 15 ms for 50 MB).
func (s *Store) Delete(dgsts ...digest.Digest) (deleted []digest.Digest, err error) {
	var errs []error
	for batch := range slices.Chunk(dgsts, freeBatch) {
		gone, err := s.unlink(batch)
		deleted, errs = append(deleted, gone...), append(errs, err)
	}
	if len(deleted) > 0 {
		errs = append(errs, atomicfile.SyncDir(s.blobs()))
	}
	return deleted, errors.Join(errs...)
}

// While files are freed they are held open: at most freeBatch in each of at most freeBatches.
const freeBatch, freeBatches = 64, 2

// unlink takes the names of at most freeBatch blobs away. Their files outlast them until they are closed in
// the background.
func (s *Store) unlink(dgsts []digest.Digest) (gone []digest.Digest, err error) {
	s.freeing <- struct{}{}
	var held []*os.File
	defer s.background.Go(func() {
		for _, f := range held {
			_ = f.Close() // it was opened to be closed
		}
		<-s.freeing
	})
	var errs []error
	for _, d := range dgsts {
		path, err := s.path(d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if f, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0); err == nil {
			held = append(held, f)
		}
		switch err := os.Remove(path); {
		case err == nil:
			gone = append(gone, d)
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	return gone, errors.Join(errs...)
}

// Digests lists the blobs, in no order.
func (s *Store) Digests() ([]digest.Digest, error) {
	entries, err := os.ReadDir(s.blobs())
	if err != nil {
		return nil, fmt.Errorf("content store: %w", err)
	}
	all := make([]digest.Digest, len(entries))
	for i, e := range entries {
		all[i] = digest.NewDigestFromEncoded(digest.SHA256, e.Name())
	}
	return all, nil
}

// Writer writes a blob that nobody can name before Commit. It is for one goroutine.
type Writer struct {
	store *Store
	file  *os.File // nil after the end
	hash  hash.Hash
	size  int64
}

// Write appends.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	return n, err
}

// Digest is the sha256 of what is there.
func (w *Writer) Digest() digest.Digest { return sum(w.hash) }

func sum(h hash.Hash) digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(h.Sum(nil)))
}

// Commit makes the blob durable and then gives it its name. want may be "": then the blob has the digest
// that its bytes have. When the digest differs from want, the bytes are thrown away and the error is of the
// kind errdefs.ErrFailedPrecondition. The writer is ended.
func (w *Writer) Commit(ctx context.Context, want digest.Digest) (Info, error) {
	got := w.Digest()
	if want != "" && want != got {
		return Info{}, errors.Join(fmt.Errorf("the bytes have the digest %s, not %s: %w", got, want, errdefs.ErrFailedPrecondition), w.Abort())
	}
	if err := ctx.Err(); err != nil {
		return Info{}, errors.Join(context.Cause(ctx), w.Abort())
	}
	path, err := w.store.path(got)
	if err == nil {
		err = w.file.Sync()
	}
	if err == nil {
		err = os.Rename(w.file.Name(), path)
	}
	if err != nil {
		return Info{}, errors.Join(fmt.Errorf("store blob %s: %w", got, err), w.Abort())
	}
	if err := atomicfile.SyncDir(w.store.blobs()); err != nil {
		return Info{}, errors.Join(err, w.end())
	}
	return Info{got, w.size, time.Now()}, w.end()
}

// Abort ends the writer and throws away what is there. After Commit it does nothing.
func (w *Writer) Abort() error {
	if w.file == nil {
		return nil
	}
	return errors.Join(os.Remove(w.file.Name()), w.end())
}

func (w *Writer) end() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

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
