package registry

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// chunkSize is how much a chunk has where an upload must come in chunks: below the 100 MB that proxies
// in front of registries commonly take.
const chunkSize = 32 << 20

// upload stores a blob through an upload session. It sends it whole in one PUT, as every registry
// takes it (Google's take nothing else); where a proxy says that this is too large, or the registry
// knows no such PUT, in chunks. A failed upload starts again with a new session.
func (p *push) upload(ctx context.Context, desc ocispec.Descriptor, session *url.URL) error {
	send, whole := p.whole, true
	for attempt := 0; ; attempt++ {
		err := p.tryUpload(ctx, desc, session, send)
		if err == nil {
			return nil
		}
		session = nil
		if wantsChunks(err) && whole {
			send, whole = p.chunks, false
			continue
		}
		delay, worth := again(ctx, err, attempt, true)
		if !worth && !lostSession(err, attempt) {
			return p.explainUpload(desc, err)
		}
		p.say(desc, Retrying, 0)
		if err := p.c.shared.wait(ctx, delay); err != nil {
			return err
		}
	}
}

func wantsChunks(err error) bool {
	switch statusOf(err) {
	case http.StatusRequestEntityTooLarge, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}

// lostSession says whether the registry has forgotten an upload, or lost count of it: worth one new one.
func lostSession(err error, attempt int) bool {
	status := statusOf(err)
	return attempt == 0 && (status == http.StatusNotFound || status == http.StatusRequestedRangeNotSatisfiable || status == http.StatusUnauthorized)
}

type sendFunc func(ctx context.Context, desc ocispec.Descriptor, session uploadSession) error

func (p *push) tryUpload(ctx context.Context, desc ocispec.Descriptor, at *url.URL, send sendFunc) error {
	session := uploadSession{at: at}
	if at == nil {
		begun, _, err := p.begin(ctx, "")
		if err != nil {
			return err
		}
		session = begun
	}
	return send(ctx, desc, session)
}

// uploadSession is where an upload goes on.
type uploadSession struct {
	at    *url.URL
	least int64 // bytes that a chunk must have; 0 for any
}

// sessionOf reads where an upload goes on. The address may be relative, is another after each answer,
// and has a query that is not ours to change.
func sessionOf(resp *http.Response) (uploadSession, error) {
	at, err := location(resp)
	least, e := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64)
	if e != nil {
		least = 0
	}
	return uploadSession{at, least}, err
}

// location resolves the Location of an answer. Behind a proxy that ends TLS some registries give an
// http address of their own: that is taken as https.
func location(resp *http.Response) (*url.URL, error) {
	text := resp.Header.Get("Location")
	at, err := resp.Request.URL.Parse(text)
	if err != nil || text == "" {
		return nil, say(errdefs.ErrUnavailable, errPermanent, "registry %s: it gives no address to upload to (%q)", resp.Request.URL.Host, printable(text))
	}
	if at.Scheme == "http" && resp.Request.URL.Scheme == "https" && strings.EqualFold(at.Hostname(), resp.Request.URL.Hostname()) {
		at.Scheme = "https"
		if at.Port() == "80" || at.Port() == "" {
			at.Host = resp.Request.URL.Host
		}
	}
	return at, nil
}

// ending adds the digest to a session's address.
func ending(at *url.URL, dgst digest.Digest) *url.URL {
	u := *at
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "digest=" + url.QueryEscape(dgst.String())
	return &u
}

// whole sends all in the PUT that also ends the upload.
func (p *push) whole(ctx context.Context, desc ocispec.Descriptor, session uploadSession) error {
	return p.put(ctx, desc, session.at, desc.Size, func() (io.ReadCloser, error) {
		r, err := p.open(ctx, desc)
		if err != nil {
			return nil, err
		}
		return &sending{from: r, desc: desc, hash: desc.Digest.Algorithm().Hash(), meter: p.meter(desc)}, nil
	})
}

func (p *push) meter(desc ocispec.Descriptor) *meter {
	return &meter{to: p.report, stage: Uploading, blob: desc.Digest, total: desc.Size, now: p.c.shared.now}
}

// put ends an upload, with the rest of its bytes or none.
func (p *push) put(ctx context.Context, desc ocispec.Descriptor, at *url.URL, size int64, body func() (io.ReadCloser, error)) error {
	resp, err := p.c.do(ctx, p.at, request{
		method: http.MethodPut, url: ending(at, desc.Digest), scopes: p.scopes,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
		body:   body, size: size, once: true,
	})
	if err == nil {
		discard(resp)
	}
	return err
}

// chunks sends one PATCH after another and a PUT without a body.
func (p *push) chunks(ctx context.Context, desc ocispec.Descriptor, session uploadSession) error {
	r, err := p.open(ctx, desc)
	if err != nil {
		return err
	}
	from := &sending{from: r, desc: desc, hash: desc.Digest.Algorithm().Hash(), meter: p.meter(desc)}
	defer r.Close()
	for from.offset < desc.Size {
		if session, err = p.patch(ctx, from, session); err != nil {
			return err
		}
	}
	return p.put(ctx, desc, session.at, 0, nil)
}

func (p *push) patch(ctx context.Context, from *sending, session uploadSession) (uploadSession, error) {
	start := from.offset
	n := min(max(session.least, p.c.shared.chunk), from.desc.Size-start)
	sent := false
	resp, err := p.c.do(ctx, p.at, request{
		method: http.MethodPatch, url: session.at, scopes: p.scopes,
		header: http.Header{
			"Content-Type":  {"application/octet-stream"},
			"Content-Range": {fmt.Sprintf("%d-%d", start, start+n-1)},
		},
		body: func() (io.ReadCloser, error) {
			if sent {
				return nil, errConsumed
			}
			sent = true
			return io.NopCloser(io.LimitReader(from, n)), nil
		},
		size: n, once: true,
	})
	if err != nil {
		return session, err
	}
	discard(resp)
	if got := resp.Header.Get("Range"); !rangeReaches(got, start+n) {
		return session, say(errdefs.ErrUnavailable, nil, "registry %s: it has taken %q of an upload of which %d bytes were sent", p.at.name, printable(got), start+n)
	}
	next, err := sessionOf(resp)
	next.least = max(next.least, session.least)
	return next, err
}

var errConsumed = errors.New("this chunk has been sent and can't be sent again alone")

// rangeReaches compares the Range of an answer to a PATCH with what was sent. Some registries leave it
// out, and some always say 0-0: those aren't held to it, the digest at the end decides.
func rangeReaches(header string, size int64) bool {
	if header == "" || header == "0-0" {
		return true
	}
	_, last, ok := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	return ok && err == nil && n+1 == size
}

func (p *push) explainUpload(desc ocispec.Descriptor, err error) error {
	var written *sentence
	var missing *MissingError
	if errors.As(err, &written) || errors.As(err, &missing) || refused(err) {
		return err
	}
	return fmt.Errorf("upload %s: %w", desc.Digest, err)
}

// sending reads a blob out of the Source and holds it to its digest: a damaged one fails here, before a
// registry can keep it.
type sending struct {
	from   io.ReadCloser
	desc   ocispec.Descriptor
	hash   hash.Hash
	offset int64
	meter  *meter
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.offset += int64(n)
	s.hash.Write(p[:n])
	s.meter.at(s.offset)
	short := err == io.EOF && s.offset < s.desc.Size
	if short || s.offset > s.desc.Size || s.offset == s.desc.Size && n > 0 && digest.NewDigest(s.desc.Digest.Algorithm(), s.hash) != s.desc.Digest {
		return 0, say(errdefs.ErrDataLoss, errPermanent, "blob %s is damaged on this machine: its bytes have another digest or length", s.desc.Digest)
	}
	return n, err
}

func (s *sending) Close() error { return s.from.Close() }
