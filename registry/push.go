package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/berth-engine/berth/image/manifest"
)

// Source gives what Push stores. Its methods are called from several goroutines.
type Source interface {
	// Open returns the bytes of a blob or manifest, from the beginning; Push closes them. It is called
	// again where an upload has to start again. What is not here is errdefs.ErrNotFound; that is no
	// failure where the registry has it already, or in a repository of Repositories.
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// Repositories names repositories that are known to have the blob. Those on the registry that is
	// pushed to are asked to share it.
	Repositories(ctx context.Context, desc ocispec.Descriptor) []reference.Named
}

// PushOptions configure a Push.
type PushOptions struct {
	// Progress is told of each step; nil for silence. It is called by one goroutine at a time.
	Progress func(Event)
}

// MissingError says that something below the manifest or index that was to be pushed is neither in
// the Source nor in the registry. Its kind is errdefs.ErrNotFound.
type MissingError struct {
	Descriptor ocispec.Descriptor
	Repository string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("push to %s: %s (%s) is neither on this machine nor in the registry", e.Repository, e.Descriptor.Digest, e.Descriptor.MediaType)
}

// Unwrap gives the kind.
func (e *MissingError) Unwrap() []error { return []error{errdefs.ErrNotFound, errPermanent} }

// Push stores root, a manifest or an index, and everything below it, and makes the tag of ref point at
// it; a reference without a tag means "latest", one with a digest is refused. Blobs go before the
// manifests that name them, manifests before an index, the tag last. The bytes are the Source's, so the
// digest is root's. Errors are as Pull's, and *MissingError.
func (c *Client) Push(ctx context.Context, ref reference.Named, root ocispec.Descriptor, src Source, opts PushOptions) error {
	if _, ok := ref.(reference.Digested); ok {
		return say(errdefs.ErrInvalidArgument, nil, "cannot push %s: a reference with a digest has no tag to push to", reference.FamiliarString(ref))
	}
	p := &push{
		repository: c.repository(c.endpointOf(reference.Domain(ref)), ref, "pull,push"),
		from:       src,
		report:     &reporter{tell: opts.Progress},
		blobs:      make(chan struct{}, c.shared.uploads),
		uploads:    uploads{going: map[digest.Digest]*upload{}},
	}
	if err := p.root(ctx, root, target(ref)); err != nil {
		return explainPush(ref, err)
	}
	return nil
}

// push is one Push's way through what is below a manifest or index.
type push struct {
	*repository
	from   Source
	report *reporter
	blobs  chan struct{} // one token for each upload under way
	uploads
}

// root stores everything, the tag last. What the registry has under root's digest is whole: then only
// the tag is missing.
func (p *push) root(ctx context.Context, root ocispec.Descriptor, tag string) error {
	body, doc, err := p.document(ctx, root)
	if err != nil {
		return err
	}
	known, err := p.hasManifest(ctx, root.Digest)
	if err != nil {
		return err
	}
	if known {
		p.allExist(doc)
		err := p.putManifest(ctx, tag, doc.MediaType, root.Digest, body)
		if codeOf(err) != codeBlobUnknown {
			return err
		}
	}
	if err := p.below(ctx, doc); err != nil {
		return err
	}
	return p.putManifest(ctx, tag, doc.MediaType, root.Digest, body)
}

func (p *push) allExist(doc manifest.Document) {
	for _, d := range doc.Descriptors() {
		if doc.Manifest != nil {
			p.say(d, Exists, d.Size)
		}
	}
}

func (p *push) say(d ocispec.Descriptor, stage Stage, current int64) {
	p.report.report(Event{Stage: stage, Digest: d.Digest, Current: current, Total: d.Size})
}

// below stores all that a document names.
func (p *push) below(ctx context.Context, doc manifest.Document) error {
	group, ctx := errgroup.WithContext(ctx)
	if doc.Index != nil {
		for _, child := range doc.Index.Manifests {
			group.Go(func() error { return p.child(ctx, child) })
		}
		return group.Wait()
	}
	for _, d := range doc.Descriptors() {
		if manifest.IsForeign(d.MediaType) && len(d.URLs) > 0 {
			continue
		}
		p.say(d, Waiting, 0)
		group.Go(func() error { return p.once(ctx, d, p.blob) })
	}
	return group.Wait()
}

// child stores an entry of an index, and what is below it. One that is not here is left as it is where
// the registry has it: that is so where an image was pulled for one platform from the same repository.
func (p *push) child(ctx context.Context, desc ocispec.Descriptor) error {
	known, err := p.hasManifest(ctx, desc.Digest)
	if err != nil || known {
		return err
	}
	body, doc, err := p.document(ctx, desc)
	if err != nil {
		return err
	}
	if err := p.below(ctx, doc); err != nil {
		return err
	}
	return p.putManifest(ctx, desc.Digest.String(), doc.MediaType, desc.Digest, body)
}

// document reads an index or manifest out of the Source.
func (p *push) document(ctx context.Context, desc ocispec.Descriptor) ([]byte, manifest.Document, error) {
	if desc.Size > manifest.MaxSize {
		return nil, manifest.Document{}, p.tooLarge(desc.Digest.String())
	}
	r, err := p.open(ctx, desc)
	if err != nil {
		return nil, manifest.Document{}, err
	}
	body, err := io.ReadAll(io.LimitReader(r, manifest.MaxSize+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, manifest.Document{}, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	if err := manifest.VerifyDigest(desc.Digest, body); err != nil {
		return nil, manifest.Document{}, say(errdefs.ErrDataLoss, err, "manifest %s is damaged on this machine: %v", desc.Digest, err)
	}
	doc, err := manifest.Parse(desc.MediaType, body)
	if err != nil {
		return nil, doc, say(err, nil, "manifest %s can't be pushed: %v", desc.Digest, err)
	}
	return body, doc, nil
}

func (p *push) open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := p.from.Open(ctx, desc)
	if errdefs.IsNotFound(err) {
		return nil, &MissingError{desc, p.name.Name()}
	}
	if err != nil {
		return nil, settled{fmt.Errorf("open %s: %w", desc.Digest, err)}
	}
	return r, nil
}

func (p *push) hasManifest(ctx context.Context, dgst digest.Digest) (bool, error) {
	return p.has(ctx, "manifests/"+dgst.String(), acceptManifests())
}

func (p *push) hasBlob(ctx context.Context, dgst digest.Digest) (bool, error) {
	return p.has(ctx, "blobs/"+dgst.String(), nil)
}

func (p *push) has(ctx context.Context, what string, header http.Header) (bool, error) {
	resp, err := p.ask(ctx, http.MethodHead, what, header)
	if err == nil {
		discard(resp)
		return true, nil
	}
	if status := statusOf(err); status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusBadRequest {
		return false, nil // some know no such repository yet, and say so in odd ways
	}
	return false, err
}

// putManifest stores a document under a tag or its digest, byte by byte as it is.
func (p *push) putManifest(ctx context.Context, under, mediaType string, dgst digest.Digest, body []byte) error {
	u, err := p.c.url(ctx, p.at, p.path+"/manifests/"+url.PathEscape(under))
	if err != nil {
		return err
	}
	resp, err := p.c.do(ctx, p.at, request{
		method: http.MethodPut, url: u, scopes: p.scopes,
		header: http.Header{"Content-Type": {mediaType}},
		body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		size:   int64(len(body)),
	})
	if err != nil {
		return err
	}
	discard(resp)
	if stored := resp.Header.Get("Docker-Content-Digest"); stored != "" && stored != dgst.String() {
		return say(errdefs.ErrDataLoss, nil, "the registry stored the manifest %s as %s", dgst, printable(stored))
	}
	return nil
}

// blob stores a config or layer, unless the registry has it or can share another repository's.
func (p *push) blob(ctx context.Context, desc ocispec.Descriptor) error {
	select {
	case p.blobs <- struct{}{}:
		defer func() { <-p.blobs }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	known, err := p.hasBlob(ctx, desc.Digest)
	if err != nil {
		return err
	}
	if known {
		p.say(desc, Exists, desc.Size)
		return nil
	}
	session, from, err := p.mount(ctx, desc)
	switch {
	case err != nil:
		return err
	case from != "":
		p.report.report(Event{Stage: Mounted, Digest: desc.Digest, Current: desc.Size, Total: desc.Size, From: from})
		return nil
	}
	if err := p.upload(ctx, desc, session); err != nil {
		return err
	}
	p.say(desc, Done, desc.Size)
	return nil
}

// mount asks the registry to share the blob of another repository. Where it doesn't, it has begun an
// upload, whose address is session (nil: none has begun).
func (p *push) mount(ctx context.Context, desc ocispec.Descriptor) (session *url.URL, from string, err error) {
	tried := 0
	for _, other := range p.from.Repositories(ctx, desc) {
		const most = 3
		if reference.Domain(other) != reference.Domain(p.name) || reference.Path(other) == p.path || tried == most {
			continue
		}
		tried++
		path := reference.Path(other)
		query := url.Values{"mount": {desc.Digest.String()}, "from": {path}}
		begun, shared, err := p.begin(ctx, "?"+query.Encode(), repositoryScope(path, "pull"))
		switch {
		case err != nil && (refused(err) || statusOf(err)/100 == 4):
			continue // not allowed there, or no such thing as sharing
		case err != nil:
			return nil, "", err
		case shared:
			return nil, path, nil
		}
		session = begun.at
	}
	return session, "", nil
}

// begin starts an upload, or by its query asks for a mount; shared says that this was granted, and
// nothing is to be uploaded.
func (p *push) begin(ctx context.Context, query string, scopes ...string) (session uploadSession, shared bool, err error) {
	u, err := p.c.url(ctx, p.at, p.path+"/blobs/uploads/"+query)
	if err != nil {
		return session, false, err
	}
	resp, err := p.c.do(ctx, p.at, request{method: http.MethodPost, url: u, scopes: append(scopes, p.scopes...)})
	if err != nil {
		return session, false, err
	}
	discard(resp)
	if query != "" && resp.StatusCode == http.StatusCreated {
		return session, true, nil
	}
	session, err = sessionOf(resp)
	return session, false, err
}

// uploads are the blobs of a Push, so that what several manifests name is stored once.
type uploads struct {
	mu    sync.Mutex
	going map[digest.Digest]*upload // guarded by mu
}

type upload struct {
	done chan struct{}
	err  error // after done
}

// once stores a blob, or waits for what comes of whoever stores it.
func (u *uploads) once(ctx context.Context, desc ocispec.Descriptor, store func(context.Context, ocispec.Descriptor) error) error {
	u.mu.Lock()
	other, ok := u.going[desc.Digest]
	if !ok {
		other = &upload{done: make(chan struct{})}
		u.going[desc.Digest] = other
	}
	u.mu.Unlock()
	if !ok {
		other.err = store(ctx, desc)
		close(other.done)
		return other.err
	}
	select {
	case <-other.done:
		return other.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// explainPush writes the sentence for an image that can't be pushed, in Docker's words where it has some.
func explainPush(ref reference.Named, err error) error {
	var written *sentence
	var missing *MissingError
	switch {
	case errors.As(err, &missing), errors.As(err, &written):
		return err
	case refused(err):
		return say(errdefs.ErrPermissionDenied, err, "push access denied for %s, it may require 'berth login %s': %v",
			reference.FamiliarName(ref), reference.Domain(ref), err)
	}
	return fmt.Errorf("push %s: %w", reference.FamiliarString(ref), err)
}
