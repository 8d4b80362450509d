package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Target takes what Pull fetches. Its methods are called from several goroutines. Nothing that was put
// is named by anything until Pull has returned: the Target keeps it from being collected meanwhile.
type Target interface {
	// Blob returns an index, a manifest or a config that is here already and needs not be fetched; else
	// errdefs.ErrNotFound. desc may have nothing but a digest.
	Blob(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
	// PutBlob stores an index, a manifest or a config, already verified.
	PutBlob(ctx context.Context, desc ocispec.Descriptor, data []byte) error
	// HasLayer says whether the layer is here and needs not be fetched. blob describes its bytes in the
	// registry, diffID names the uncompressed tar.
	HasLayer(ctx context.Context, blob ocispec.Descriptor, diffID digest.Digest) (bool, error)
	// PutLayer stores a layer from its bytes as they come from the registry, compressed by whatever
	// their first bytes say. The end of compressed is io.EOF only if size and digest are blob's, any
	// other error means that nothing may be kept; so it reads up to io.EOF before it makes anything
	// permanent. It checks that the uncompressed bytes have diffID. Layers are put at the same time and
	// in no order; the same blob is put once.
	PutLayer(ctx context.Context, blob ocispec.Descriptor, diffID digest.Digest, compressed io.Reader) error
}

// PullOptions say what of an image is wanted.
type PullOptions struct {
	// Platform chooses from an index and must be the image's. nil chooses what runs best on this
	// machine, and takes an image that is there for one platform only, whichever that is.
	Platform *ocispec.Platform
	// Progress is told of each step; nil for silence. It is called by one goroutine at a time.
	Progress func(Event)
}

// Pull fetches an image into dst. A reference with a tag is resolved once, and fetched by digest from
// then on; one with neither tag nor digest means the tag "latest". When it returns without an error,
// index, manifest, config and every layer are in dst; to give them a name is the caller's.
//
// Errors are written to be shown, and have the kinds of errdefs: ErrNotFound (no such image, tag or
// platform, or it may need a login), ErrUnauthenticated (wrong password), ErrPermissionDenied,
// ErrUnavailable (registry not reached, or out of order), ErrResourceExhausted (rate limits),
// ErrDataLoss (digest or length differ), ErrInvalidArgument (something that is no image).
func (c *Client) Pull(ctx context.Context, ref reference.Named, opts PullOptions, dst Target) (*Image, error) {
	image, from, err := c.find(ctx, ref, opts, dst)
	if err != nil {
		return nil, err
	}
	p := &pull{Client: c, from: from, to: dst, report: &reporter{tell: opts.Progress}}
	if err := p.layers(ctx, image.Layers); err != nil {
		return nil, err
	}
	return image, nil
}

// pull is one Pull's way through the layers.
type pull struct {
	*Client
	from   *repository
	to     Target
	report *reporter
}

// layers fetches all layers, several at a time, the lowest first. The first failure ends the others.
func (p *pull) layers(ctx context.Context, layers []Layer) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.shared.downloads)
	seen := map[digest.Digest]bool{}
	var once []Layer
	for _, l := range layers {
		if !seen[l.Blob.Digest] {
			seen[l.Blob.Digest] = true
			once = append(once, l)
			p.say(l, Waiting, 0)
		}
	}
	for _, l := range once {
		group.Go(func() error { return p.layer(ctx, l) })
	}
	return group.Wait()
}

func (p *pull) say(l Layer, stage Stage, current int64) {
	p.report.report(Event{Stage: stage, Digest: l.Blob.Digest, Current: current, Total: l.Blob.Size})
}

// layer fetches one layer unless it is here. While another Pull fetches the same, it waits for what
// comes of that.
func (p *pull) layer(ctx context.Context, l Layer) error {
	for {
		have, err := p.to.HasLayer(ctx, l.Blob, l.DiffID)
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.DiffID, err)
		}
		if have {
			p.say(l, Exists, l.Blob.Size)
			return nil
		}
		land, other := p.shared.flights.take(l.DiffID)
		if other == nil {
			defer land()
			return p.fetch(ctx, l)
		}
		select {
		case <-other:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *pull) fetch(ctx context.Context, l Layer) error {
	m := &meter{to: p.report, stage: Downloading, blob: l.Blob.Digest, total: l.Blob.Size, now: p.shared.now}
	m.say(Downloading, 0)
	blob := p.from.blob(ctx, l.Blob, m)
	defer blob.end()
	err := p.to.PutLayer(ctx, l.Blob, l.DiffID, blob)
	if broken := blob.failure(); broken != nil { // what the Target makes of a broken stream says less
		return broken
	}
	if err != nil {
		return fmt.Errorf("layer %s of %s: %w", l.Blob.Digest, p.from.name.Name(), err)
	}
	if !blob.whole {
		return say(errdefs.ErrInternal, nil, "layer %s of %s: it was stored before all of it had been read", l.Blob.Digest, p.from.name.Name())
	}
	p.say(l, Done, l.Blob.Size)
	return nil
}

// Resolve asks the registry what ref points at now: media type, digest and size of a manifest or an
// index. A reference with a digest is looked up, too. Errors are as Pull's.
func (c *Client) Resolve(ctx context.Context, ref reference.Named) (ocispec.Descriptor, error) {
	var found head
	_, err := c.tryEndpoints(ctx, ref, func(r *repository) (err error) {
		found, err = r.resolve(ctx, target(ref))
		return err
	})
	return found.desc, err
}

// Inspect fetches everything of an image but its layers.
func (c *Client) Inspect(ctx context.Context, ref reference.Named, opts PullOptions) (*Image, error) {
	image, _, err := c.find(ctx, ref, opts, nowhere{})
	return image, err
}

// find fetches everything of an image but its layers, and says where from.
func (c *Client) find(ctx context.Context, ref reference.Named, opts PullOptions, dst documents) (*Image, *repository, error) {
	var image *Image
	from, err := c.tryEndpoints(ctx, ref, func(r *repository) error {
		f := finder{repository: r, kept: dst, platform: opts.Platform}
		found, err := f.image(ctx, target(ref))
		image = found
		return err
	})
	return image, from, err
}

// tryEndpoints does something at each place where images of ref may be, until it succeeds.
func (c *Client) tryEndpoints(ctx context.Context, ref reference.Named, do func(*repository) error) (*repository, error) {
	var err error
	for _, e := range c.pullEndpoints(reference.Domain(ref)) {
		r := c.repository(e, ref, "pull")
		if err = do(r); err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, explainPull(ref, err)
}

// explainPull writes the sentence for an image that can't be had, in Docker's words where it has some.
func explainPull(ref reference.Named, err error) error {
	var settledHere *sentence
	name := reference.FamiliarString(ref)
	switch status := statusOf(err); {
	case errors.As(err, &settledHere):
		return fmt.Errorf("%s: %w", name, err)
	case status == http.StatusUnauthorized, status == http.StatusForbidden, codeOf(err) == codeNameUnknown:
		return say(errdefs.ErrNotFound, err, "pull access denied for %s, repository does not exist or may require 'berth login %s': %v",
			reference.FamiliarName(ref), reference.Domain(ref), err)
	case status == http.StatusNotFound:
		return say(errdefs.ErrNotFound, err, "manifest for %s not found: %v", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}
