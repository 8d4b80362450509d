package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-engine/berth/image"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// roots are all layers and blobs that something names: images, containers, the build cache. Leases are
// looked at beside it. An error, or a record that was set aside, means that nothing may be deleted.
func (e *Engine) roots(ctx context.Context) (map[digest.Digest]bool, error) {
	e.mu.Lock()
	damaged := e.damaged
	e.mu.Unlock()
	if damaged || e.images.Damaged() {
		return nil, fmt.Errorf("a damaged record was set aside, so nothing is deleted that it may have named; look at it, and remove it when it is of no use: %w", errdefs.ErrFailedPrecondition)
	}
	named := map[digest.Digest]bool{}
	images, err := e.images.List()
	if err != nil {
		return nil, err
	}
	for _, img := range images {
		for _, d := range belongings(img) {
			named[d] = true
		}
	}
	for _, c := range e.all() {
		for _, d := range c.Config().Layers {
			named[d] = true
		}
		named[c.Config().ImageID] = true // its config: history and SHELL are read from it
	}
	cached, err := e.builder.Layers(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range cached {
		named[d] = true
	}
	return named, nil
}

// holdImage finds an image's record and has a lease keep all that it names. errdefs.ErrNotFound where there is none, or
// it was removed in this moment.
func (e *Engine) holdImage(l *lease, id digest.Digest) (image.Image, error) {
	img, err := e.images.Get(id)
	for err == nil {
		l.hold(belongings(img)...)
		before := img
		if img, err = e.images.Get(id); err == nil && slices.Equal(belongings(img), belongings(before)) {
			return img, nil
		}
	}
	return image.Image{}, err
}

// belongings are the layers and blobs that a record of an image names.
func belongings(img image.Image) []digest.Digest {
	return append(append([]digest.Digest{img.ID}, img.DiffIDs...), blobsOf(img.Forms()...)...)
}

// blobsOf are the manifests, indexes and compressed layers of forms.
func blobsOf(forms ...image.Form) (all []digest.Digest) {
	for _, f := range forms {
		if f.Manifest != nil {
			all = append(all, f.Manifest.Digest)
		}
		if f.Index != nil {
			all = append(all, f.Index.Digest)
		}
		for _, l := range f.Layers {
			all = append(all, l.Digest)
		}
	}
	return all
}

// sweep deletes, in the background, the layers and blobs of earlier engines that nothing names: of what
// was being made when one was killed, and of removals that were cut short. It is called before the engine
// takes requests: whatever is made later is not among them.
func (e *Engine) sweep() error {
	layers, err := e.layers.DiffIDs()
	if err != nil {
		return err
	}
	blobs, err := e.content.Digests()
	if err != nil {
		return err
	}
	e.background(func(ctx context.Context) {
		if ctx.Err() == nil {
			e.drop("what earlier engines left may stay on the disk", append(layers, blobs...))
		}
	})
	return nil
}

// endLease ends a lease. What was to be deleted while it was only held by this one is deleted now.
func (e *Engine) endLease(l *lease) {
	e.drop("what was removed while it was in use may stay on the disk", l.end())
}

// endWork ends the lease of work that makes or brings things. Where it failed, what nothing names of all that it held
// goes again.
func (e *Engine) endWork(l *lease, failed *error) {
	if *failed == nil {
		e.endLease(l)
		return
	}
	l.doubt()
	if _, err := e.collect(l.end()); err != nil {
		*failed = errors.Join(*failed, fmt.Errorf("what was made until then stays on the disk: %w", err))
	}
}

// holdLayer keeps a layer until release.
func (e *Engine) holdLayer(id digest.Digest) (release func()) {
	l := e.leases.lease()
	l.hold(id)
	return func() { e.endLease(l) }
}

// dropLayers deletes layers that the builder has no use for, unless something else names them.
func (e *Engine) dropLayers(ids []digest.Digest) {
	e.drop("layers that no build uses may stay on the disk", ids)
}

// drop collects where nobody waits for an error: that is logged as a warning, unless the engine closes.
func (e *Engine) drop(warning string, candidates []digest.Digest) {
	if _, err := e.collect(candidates); err != nil && e.life.Err() == nil {
		e.log.Warn(warning, "error", err)
	}
}

// collect deletes those of the candidates that nothing names any more, and returns which. What a lease holds goes when
// it ends. Nobody's cancellation keeps it from that: what named them is gone already.
func (e *Engine) collect(candidates []digest.Digest) (deleted []digest.Digest, err error) {
	if len(candidates) == 0 {
		return nil, nil
	}
	ctx := context.WithoutCancel(e.life)
	e.leases.mu.Lock()
	defer e.leases.mu.Unlock()
	named, err := e.roots(ctx)
	if err != nil {
		return nil, err
	}
	var layers, blobs []digest.Digest
	for _, d := range candidates {
		if named[d] {
			continue
		}
		named[d] = true // each once
		if e.leases.counts[d] > 0 {
			e.leases.doubt([]digest.Digest{d})
			continue
		}
		if _, err := e.layers.Get(d); err == nil {
			layers = append(layers, d)
		} else {
			blobs = append(blobs, d)
		}
	}
	// the layers last: what is synced while their files, which are large, are freed in the background waits for that
	gone, failed := e.content.Delete(blobs...)
	deleted, err = e.removeLayers(ctx, layers)
	return append(deleted, gone...), errors.Join(err, failed)
}

// removeLayers deletes layers at once and, where one of them is still mounted for somebody, the others
// one by one.
func (e *Engine) removeLayers(ctx context.Context, ids []digest.Digest) (deleted []digest.Digest, err error) {
	if err := e.layers.Remove(ctx, ids...); !errdefs.IsConflict(err) {
		if err != nil {
			return nil, err
		}
		return ids, nil
	}
	var errs []error
	for _, id := range ids {
		switch err := e.layers.Remove(ctx, id); {
		case err == nil:
			deleted = append(deleted, id)
		case !errdefs.IsConflict(err):
			errs = append(errs, err)
		}
	}
	return deleted, errors.Join(errs...)
}
