package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image/manifest"
)

// repository is a repository of a registry, as one client may use it.
type repository struct {
	c      *Client
	at     *endpoint
	name   reference.Named // for sentences
	path   string          // library/alpine
	scopes []string
}

func (c *Client) repository(e *endpoint, ref reference.Named, actions string) *repository {
	path := reference.Path(ref)
	return &repository{c: c, at: e, name: ref, path: path, scopes: []string{repositoryScope(path, actions)}}
}

// ask sends a request about something in the repository: "manifests/latest", "blobs/sha256:…".
func (r *repository) ask(ctx context.Context, method, what string, header http.Header) (*http.Response, error) {
	u, err := r.c.url(ctx, r.at, r.path+"/"+what)
	if err != nil {
		return nil, err
	}
	return r.c.do(ctx, r.at, request{method: method, url: u, header: header, scopes: r.scopes})
}

func acceptManifests() http.Header {
	return http.Header{"Accept": {strings.Join(manifest.Accepted(), ", ")}}
}

// target is what a reference asks a registry for: its digest, else its tag, else "latest".
func target(ref reference.Named) string {
	switch r := ref.(type) {
	case reference.Digested:
		return r.Digest().String()
	case reference.Tagged:
		return r.Tag()
	}
	return "latest"
}

// head is what a registry says that a tag or digest is.
type head struct {
	desc ocispec.Descriptor
	body []byte // nil where only the head was asked for
}

// resolve finds what a tag or digest is. A HEAD doesn't count against Docker Hub's limit, a GET does; it
// is sent only where the HEAD brings no digest, or fails: then its answer says why.
func (r *repository) resolve(ctx context.Context, what string) (head, error) {
	resp, err := r.ask(ctx, http.MethodHead, "manifests/"+what, acceptManifests())
	if err == nil {
		discard(resp)
		if desc, ok := describe(resp, what); ok {
			return head{desc: desc}, nil
		}
	} else if status := statusOf(err); status == 0 || status == http.StatusTooManyRequests || status >= 500 || errors.Is(err, errPermanent) {
		return head{}, err
	}
	desc, body, err := r.fetchManifest(ctx, what)
	return head{desc, body}, err
}

// describe reads the answer to a HEAD, if it says all that is needed.
func describe(resp *http.Response, what string) (ocispec.Descriptor, bool) {
	dgst := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if dgst.Validate() != nil || resp.ContentLength <= 0 || resp.Header.Get("Content-Type") == "" {
		return ocispec.Descriptor{}, false
	}
	if asked := digest.Digest(what); asked.Validate() == nil && asked != dgst {
		return ocispec.Descriptor{}, false
	}
	return ocispec.Descriptor{MediaType: mediaTypeOf(resp), Digest: dgst, Size: resp.ContentLength}, true
}

func mediaTypeOf(resp *http.Response) string {
	t, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(t)
}

// fetchManifest fetches by tag or digest. The descriptor's digest is computed, and where a digest was
// asked for it is that one, whatever the answer's headers say.
func (r *repository) fetchManifest(ctx context.Context, what string) (ocispec.Descriptor, []byte, error) {
	resp, err := r.ask(ctx, http.MethodGet, "manifests/"+what, acceptManifests())
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	defer resp.Body.Close()
	if resp.ContentLength > manifest.MaxSize {
		return ocispec.Descriptor{}, nil, r.tooLarge(what)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, manifest.MaxSize+1))
	switch {
	case err != nil:
		return ocispec.Descriptor{}, nil, unreachable(r.at.name, err)
	case len(body) > manifest.MaxSize:
		return ocispec.Descriptor{}, nil, r.tooLarge(what)
	}
	dgst := digest.Digest(what)
	if dgst.Validate() != nil {
		dgst = digest.FromBytes(body)
	} else if err := manifest.VerifyDigest(dgst, body); err != nil {
		return ocispec.Descriptor{}, nil, say(errdefs.ErrDataLoss, err, "registry %s sent something else than the manifest it was asked for: %v", r.at.name, err)
	}
	return ocispec.Descriptor{MediaType: mediaTypeOf(resp), Digest: dgst, Size: int64(len(body))}, body, nil
}

func (r *repository) tooLarge(what string) error {
	return say(errdefs.ErrInvalidArgument, nil, "the manifest of %s (%s) has more than the %d bytes that are read of one", r.name.Name(), what, manifest.MaxSize)
}
