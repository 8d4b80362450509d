package engine

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/berth-engine/berth/image"
	"github.com/berth-engine/berth/image/archive"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Loaded is an image that Load read.
type Loaded struct {
	Image image.Image
	Tags  []reference.NamedTagged
}

// Load reads an archive of images.
func (e *Engine) Load(ctx context.Context, r io.Reader, platform *ocispec.Platform, progress func(archive.Event)) (_ []Loaded, err error) {
	l := e.leases.lease()
	defer e.endWork(l, &err)
	found, err := archive.Read(ctx, r, archive.ReadOptions{TempDir: e.tempDir(), Platform: platform, Progress: progress}, &incoming{e, l})
	if err != nil {
		return nil, err
	}
	var all []Loaded
	for _, got := range found {
		manifest := got.Manifest
		img := image.Image{ID: got.Config.Digest, Form: image.Form{Manifest: &manifest}, Added: time.Now().UTC()}
		if got.Ref.Digest != manifest.Digest {
			index := got.Ref
			img.Index = &index
		}
		for _, part := range got.Layers {
			img.Layers = append(img.Layers, part.Blob)
			img.DiffIDs = append(img.DiffIDs, part.DiffID)
		}
		if img, err = e.record(l, img); err != nil {
			return all, err
		}
		for _, t := range got.Tags {
			if err := e.tag(t, img.ID, img.Root()); err != nil {
				return all, err
			}
		}
		e.events.publish("image", "load", img.ID.String(), map[string]string{"name": img.ID.String()})
		all = append(all, Loaded{img, got.Tags})
	}
	return all, nil
}

// Save writes images as an archive: those that the names, or IDs, stand for.
func (e *Engine) Save(ctx context.Context, users []string, w io.Writer) (err error) {
	l := e.leases.lease()
	defer e.endWork(l, &err)
	var named []archive.Named
	for _, user := range users {
		img, err := e.InspectImage(user)
		if err != nil {
			return err
		}
		held, err := e.holdImage(l, img.ID)
		if errdefs.IsNotFound(err) { // removed in this moment
			return image.NotFound(user)
		}
		if err != nil {
			return err
		}
		root, err := e.manifestOf(ctx, l, e.inForm(held, user))
		if err != nil {
			return err
		}
		n := archive.Named{Root: root}
		ref, byName := namedIn(user, img.Names)
		switch tagged, ok := ref.(reference.NamedTagged); {
		case byName && ok:
			n.Tags = []reference.NamedTagged{tagged}
		case !byName && isRepository(user, img.Names):
			n.Tags = tagsOf(img.Names)
		}
		at := slices.IndexFunc(named, func(o archive.Named) bool { return o.Root.Digest == root.Digest })
		if at >= 0 {
			named[at].Tags = append(named[at].Tags, n.Tags...)
			continue
		}
		named = append(named, n)
	}
	return archive.Write(ctx, w, named, (*outgoing)(e))
}

func isRepository(user string, names []reference.Named) bool {
	ref, err := reference.ParseNormalizedNamed(user)
	return err == nil && reference.IsNameOnly(ref) && slices.ContainsFunc(names, func(n reference.Named) bool { return n.Name() == ref.Name() })
}

func tagsOf(names []reference.Named) []reference.NamedTagged {
	var tags []reference.NamedTagged
	for _, n := range names {
		if t, ok := n.(reference.NamedTagged); ok {
			tags = append(tags, t)
		}
	}
	return tags
}
