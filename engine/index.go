package engine

import (
	"fmt"

	"github.com/berth-engine/berth/image"
	"github.com/berth-engine/berth/image/manifest"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ofPlatform finds the image of a platform: img, or another one that came by the same index.
func (e *Engine) ofPlatform(img image.Image, platform ocispec.Platform) (image.Image, error) {
	all := []image.Image{img}
	if img.Index != nil {
		others, err := e.sameIndex(img)
		if err != nil {
			return image.Image{}, err
		}
		all = append(all, others...)
	}
	for _, i := range all {
		cfg, err := e.imageConfig(i.ID)
		if err != nil {
			return image.Image{}, err
		}
		if matches(platform, cfg.Platform) {
			return i, nil
		}
	}
	return image.Image{}, fmt.Errorf("the image is not here for the platform %s: pull it for that platform first: %w", platformString(platform), errdefs.ErrNotFound)
}

// sameIndex lists the other images that came by the same index.
func (e *Engine) sameIndex(img image.Image) ([]image.Image, error) {
	all, err := e.images.List()
	if err != nil {
		return nil, err
	}
	var same []image.Image
	for _, i := range all {
		if i = i.In(img.Index.Digest); i.ID != img.ID && i.Root() == img.Index.Digest {
			same = append(same, i)
		}
	}
	return same, nil
}

// wholeIndex says whether everything that an index leads to is here: what came by it for one platform only is
// not, nor is one with attestations, which nobody pulls.
func (e *Engine) wholeIndex(root ocispec.Descriptor) bool {
	const most = 1000 // documents; an index that leads to itself has no digest
	todo := []ocispec.Descriptor{root}
	for seen := map[digest.Digest]bool{}; len(todo) > 0; todo = todo[1:] {
		desc := todo[0]
		if seen[desc.Digest] {
			continue
		}
		if seen[desc.Digest] = true; len(seen) > most {
			return false
		}
		raw, err := e.blob(desc.Digest)
		if err != nil {
			return false
		}
		doc, err := manifest.Parse(desc.MediaType, raw)
		if err != nil {
			return false
		}
		if doc.Index != nil {
			todo = append(todo, doc.Index.Manifests...)
			continue
		}
		for _, d := range doc.Descriptors() {
			if foreign := manifest.IsForeign(d.MediaType) && len(d.URLs) > 0; !foreign && !e.hasBlob(d.Digest) {
				return false
			}
		}
	}
	return true
}

// hasBlob says whether outgoing.Open finds it.
func (e *Engine) hasBlob(d digest.Digest) bool {
	if _, err := e.content.Info(d); err == nil {
		return true
	}
	_, err := e.layers.Get(d)
	return err == nil
}
