package engine

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/berth-engine/berth/image"
	"github.com/berth-engine/berth/registry"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PushOptions say how an image is pushed.
type PushOptions struct {
	// Platform is the one that is pushed, without the index that the image came by. nil: the index, where
	// everything that it leads to is here, else what the name stands for.
	Platform    *ocispec.Platform
	Credentials registry.Credentials
	Progress    func(registry.Event)
}

// Pushed is what a push stored.
type Pushed struct {
	Root ocispec.Descriptor // a manifest or an index
	// InsteadOf is the index that the image came by, where a manifest was pushed because not all is here.
	InsteadOf *ocispec.Descriptor
}

// Push stores an image under its name at its registry.
func (e *Engine) Push(ctx context.Context, ref reference.Named, o PushOptions) (_ Pushed, err error) {
	ref = reference.TagNameOnly(ref)
	id, err := e.images.Lookup(ref)
	if errdefs.IsNotFound(err) {
		return Pushed{}, notHere(ref)
	}
	if err != nil {
		return Pushed{}, err
	}
	l := e.leases.lease()
	defer e.endWork(l, &err)
	img, err := e.holdImage(l, id)
	if errdefs.IsNotFound(err) { // removed in this moment
		return Pushed{}, notHere(ref)
	}
	if err != nil {
		return Pushed{}, err
	}
	img = img.In(e.images.Root(ref, id))
	p, err := e.pushRoot(ctx, l, &img, o.Platform)
	if err != nil {
		return Pushed{}, err
	}
	if err := e.registry.As(o.Credentials).Push(ctx, ref, p.Root, (*outgoing)(e), registry.PushOptions{Progress: o.Progress}); err != nil {
		return Pushed{}, err
	}
	digested, err := reference.WithDigest(reference.TrimNamed(ref), p.Root.Digest)
	if err != nil {
		return Pushed{}, err
	}
	l.name(img.ID)
	if now, err := e.images.Get(img.ID); err == nil && now.Has(p.Root.Digest) { // else it was removed meanwhile, and needs no name
		if _, err := e.images.Tag(digested, img.ID, p.Root.Digest); err != nil {
			return Pushed{}, err
		}
	}
	e.events.publish("image", "push", reference.FamiliarString(ref), map[string]string{"name": reference.FamiliarName(ref)})
	return p, nil
}

// notHere is Docker's sentence of a push.
func notHere(ref reference.Named) error {
	return fmt.Errorf("An image does not exist locally with the tag: %s: %w", reference.FamiliarName(ref), errdefs.ErrNotFound)
}

// pushRoot says what is pushed of img, or, with a platform, of the image that img becomes. It is on the lease.
func (e *Engine) pushRoot(ctx context.Context, l *lease, img *image.Image, platform *ocispec.Platform) (Pushed, error) {
	if platform != nil {
		found, err := e.ofPlatform(*img, *platform)
		if err != nil {
			return Pushed{}, err
		}
		held, err := e.holdImage(l, found.ID)
		if err != nil {
			return Pushed{}, err
		}
		*img = held.In(found.Root())
	}
	if img.Index == nil || platform != nil {
		root, err := e.manifestOf(ctx, l, *img)
		return Pushed{Root: root}, err
	}
	others, err := e.sameIndex(*img)
	if err != nil {
		return Pushed{}, err
	}
	for _, i := range others {
		l.hold(belongings(i)...)
	}
	if e.wholeIndex(*img.Index) {
		return Pushed{Root: *img.Index}, nil
	}
	root, err := e.manifestOf(ctx, l, *img)
	return Pushed{Root: root, InsteadOf: img.Index}, err
}

// outgoing is the engine as where pushes and archives come from.
type outgoing Engine

// Open returns a blob, or a layer's tar.
func (o *outgoing) Open(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if b, err := o.content.Open(desc.Digest); err == nil {
		return struct {
			io.Reader
			io.Closer
		}{b.Reader(), b}, nil
	} else if !errdefs.IsNotFound(err) {
		return nil, err
	}
	return o.layers.Tar(desc.Digest)
}

// Repositories are where this engine knows a layer from.
func (o *outgoing) Repositories(_ context.Context, desc ocispec.Descriptor) []reference.Named {
	images, err := o.images.List()
	if err != nil {
		return nil // sharing saves an upload, no more
	}
	names, err := o.images.Names()
	if err != nil {
		return nil
	}
	var all []reference.Named
	for _, img := range images {
		if !slices.Contains(blobsOf(img.Forms()...), desc.Digest) {
			continue
		}
		for _, n := range names[img.ID] {
			if isDigest(n) { // only what a registry knows
				all = append(all, reference.TrimNamed(n))
			}
		}
	}
	return all
}
