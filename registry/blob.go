package registry

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image/manifest"
)

// worthIt is how many bytes a connection must have brought so that its loss doesn't count: a registry
// that sends a byte at a time would be asked for ever.
const worthIt = 1 << 20

// blobReader reads a blob from its registry. It hashes what passes, and where the connection is lost it
// goes on from there over a new one. It ends with io.EOF only when size and digest are right.
type blobReader struct {
	ctx   context.Context
	repo  *repository
	desc  ocispec.Descriptor
	meter *meter // may be nil

	body   io.ReadCloser // nil: to be opened
	offset int64         // bytes handed on
	hash   hash.Hash
	failed int   // attempts in a row that brought little
	start  int64 // offset at which the present connection began
	err    error // the end; io.EOF only if whole
	whole  bool  // read to the verified end
}

// blob opens a blob. Nothing is asked for until the first Read. Whoever opens it calls end.
func (r *repository) blob(ctx context.Context, desc ocispec.Descriptor, m *meter) *blobReader {
	return &blobReader{ctx: ctx, repo: r, desc: desc, meter: m, hash: desc.Digest.Algorithm().Hash()}
}

func (b *blobReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, b.err
	}
	for b.err == nil {
		if b.body == nil {
			if b.err = b.open(); b.err != nil {
				break
			}
		}
		n, err := b.body.Read(p)
		if n > 0 {
			b.took(p[:n])
		}
		if err != nil {
			b.ended(err)
		}
		if n > 0 && (b.err == nil || b.whole) {
			return n, nil
		}
	}
	return 0, b.err
}

// failure is why the blob could not be read to its end, or nil.
func (b *blobReader) failure() error {
	if b.whole {
		return nil
	}
	return b.err
}

// end ends the transfer.
func (b *blobReader) end() {
	if b.err == nil {
		b.err = errors.New("read after its end")
	}
	b.drop()
}

func (b *blobReader) drop() {
	if b.body != nil {
		_ = b.body.Close()
		b.body = nil
	}
}

func (b *blobReader) took(p []byte) {
	b.offset += int64(len(p))
	b.hash.Write(p)
	if b.offset > b.desc.Size {
		b.err = b.say(errdefs.ErrDataLoss, nil, "it is longer than the %d bytes that its manifest says", b.desc.Size)
		return
	}
	b.meter.at(b.offset)
}

// ended handles the end of one connection's body.
func (b *blobReader) ended(err error) {
	b.drop()
	switch {
	case b.err != nil:
	case b.offset == b.desc.Size && errors.Is(err, io.EOF):
		b.err = b.verified()
	case b.ctx.Err() != nil:
		b.err = context.Cause(b.ctx)
	default:
		b.lost(err)
	}
}

func (b *blobReader) verified() error {
	if got := digest.NewDigest(b.desc.Digest.Algorithm(), b.hash); got != b.desc.Digest {
		return b.say(errdefs.ErrDataLoss, nil, "its digest is %s: it was damaged on the way or in the registry", got)
	}
	b.meter.say(Verified, b.offset)
	b.meter.say(Extracting, b.offset)
	b.whole = true
	return io.EOF
}

// lost prepares for another connection, or gives up.
func (b *blobReader) lost(err error) {
	if b.offset-b.start >= worthIt {
		b.failed = 0
	}
	delay, worth := again(b.ctx, err, b.failed, true)
	if ended := errors.Is(err, io.EOF) && b.offset == b.start && b.offset > 0; ended || !worth {
		b.err = b.gaveUp(err)
		return
	}
	b.failed++
	b.meter.say(Retrying, b.offset)
	b.err = b.repo.c.shared.wait(b.ctx, delay)
}

func (b *blobReader) gaveUp(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		// The cause is left out: nobody may take this for the end.
		return b.say(errdefs.ErrDataLoss, nil, "it is truncated: %d of its %d bytes came, and no more at another try", b.offset, b.desc.Size)
	}
	return b.say(errdefs.ErrUnavailable, err, "the connection was lost after %d of %d bytes, and can't be made again: %v", b.offset, b.desc.Size, err)
}

// open asks for the blob from offset on. It always begins at the registry: a blob store's address is
// only good for a while. The requests retry by themselves.
func (b *blobReader) open() error {
	b.start = b.offset
	resp, err := b.request()
	if err != nil {
		if b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
		return b.explain(err)
	}
	if err := b.place(resp); err != nil {
		_ = resp.Body.Close()
		return err
	}
	return nil
}

func (b *blobReader) request() (*http.Response, error) {
	header := http.Header{}
	if b.offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", b.offset))
	}
	if manifest.IsForeign(b.desc.MediaType) && len(b.desc.URLs) > 0 {
		return b.foreign(header)
	}
	return b.repo.ask(b.ctx, http.MethodGet, "blobs/"+b.desc.Digest.String(), header)
}

// place takes an answer as what comes from offset on. It begins there, or, where the registry knows no
// ranges, at the beginning of the blob.
func (b *blobReader) place(resp *http.Response) error {
	from := int64(0)
	if resp.StatusCode == http.StatusPartialContent {
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); err != nil || from != b.offset {
			return b.say(errdefs.ErrUnavailable, nil, "asked for the bytes from %d on, the registry sent %q", b.offset, printable(resp.Header.Get("Content-Range")))
		}
	}
	if n := resp.ContentLength; n >= 0 && from+n != b.desc.Size {
		return b.say(errdefs.ErrDataLoss, nil, "it is not whole in the registry: it has %d bytes there, its manifest says %d", from+n, b.desc.Size)
	}
	b.body = &skipping{resp.Body, b.offset - from}
	return nil
}

// skipping is a body whose first bytes are passed over.
type skipping struct {
	io.ReadCloser
	skip int64
}

func (s *skipping) Read(p []byte) (int, error) {
	for s.skip > 0 {
		n, err := s.ReadCloser.Read(p[:min(int64(len(p)), s.skip)])
		s.skip -= int64(n)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
	}
	return s.ReadCloser.Read(p)
}

// explain writes the sentence for a blob that is not given.
func (b *blobReader) explain(err error) error {
	switch status := statusOf(err); {
	case status == http.StatusRequestedRangeNotSatisfiable:
		return b.say(errdefs.ErrDataLoss, err, "it is truncated in the registry: only %d of its %d bytes are there", b.offset, b.desc.Size)
	case status == http.StatusNotFound:
		return b.say(errdefs.ErrNotFound, err, "the registry does not have it, though its manifest names it (%v)", err)
	case refused(err):
		return b.say(errdefs.ErrPermissionDenied, err, "the registry refuses it: %v", err)
	}
	return err
}

func (b *blobReader) say(kind, cause error, format string, args ...any) error {
	return say(kind, cause, "blob %s of %s: %s", b.desc.Digest, b.repo.name.Name(), fmt.Sprintf(format, args...))
}

// foreign asks the URLs of a layer that its registry may not hand on. They are told no credentials, and
// go over https; whoever answers, the digest decides.
func (b *blobReader) foreign(header http.Header) (*http.Response, error) {
	var failures []error
	for _, address := range b.desc.URLs {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" && b.repo.at.currentScheme() != "http" {
			failures = append(failures, b.say(errdefs.ErrInvalidArgument, err, "it is to be fetched from %q, which is not at https", address))
			continue
		}
		resp, err := b.repo.c.do(b.ctx, b.repo.at, request{method: http.MethodGet, url: u, header: header, anonymous: true})
		if err == nil {
			return resp, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// readSmall fetches a config blob.
func (r *repository) readSmall(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > manifest.MaxSize {
		return nil, say(errdefs.ErrInvalidArgument, nil, "the config of %s has %d bytes, at most %d are read", r.name.Name(), desc.Size, manifest.MaxSize)
	}
	b := r.blob(ctx, desc, nil)
	defer b.end()
	return io.ReadAll(b)
}
