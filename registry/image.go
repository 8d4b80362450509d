package registry

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image/manifest"
)

// Image is what a registry has under a reference for one platform, without the bytes of the layers.
type Image struct {
	// Ref is what the reference points at: an index or Manifest itself. Its digest is the RepoDigest.
	Ref ocispec.Descriptor
	// Index is the bytes of the index that Ref describes; nil where there is none.
	Index []byte
	// Manifest describes the manifest of the platform.
	Manifest      ocispec.Descriptor
	ManifestBytes []byte
	// Config describes the image's configuration; its digest is the image's ID.
	Config      ocispec.Descriptor
	ConfigBytes []byte
	// Layers, bottom first, as the manifest has them.
	Layers []Layer
	// Platform is what the configuration says that the image is for.
	Platform ocispec.Platform
}

// Layer is a layer as a registry has it.
type Layer struct {
	Blob   ocispec.Descriptor
	DiffID digest.Digest
}

// documents is where indexes, manifests and configs are kept: a part of Target.
type documents interface {
	Blob(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
	PutBlob(ctx context.Context, desc ocispec.Descriptor, data []byte) error
}

// nowhere keeps no documents.
type nowhere struct{}

func (nowhere) Blob(context.Context, ocispec.Descriptor) ([]byte, error) {
	return nil, errdefs.ErrNotFound
}
func (nowhere) PutBlob(context.Context, ocispec.Descriptor, []byte) error { return nil }

// finder walks from a reference to the config of an image.
type finder struct {
	*repository
	kept     documents
	platform *ocispec.Platform
}

// maxIndexes is how many indexes may lead from one to the next.
const maxIndexes = 3

func (f finder) image(ctx context.Context, what string) (*Image, error) {
	at, err := f.start(ctx, what)
	if err != nil {
		return nil, err
	}
	image := &Image{}
	for range maxIndexes + 1 {
		desc, body, err := f.document(ctx, at)
		if err != nil {
			return nil, err
		}
		doc, err := manifest.Parse(desc.MediaType, body)
		if err != nil {
			return nil, f.noImage(desc, err)
		}
		desc.MediaType = doc.MediaType
		if image.Ref.Digest == "" {
			image.Ref = desc
		}
		if doc.Index == nil {
			return f.finish(ctx, image, desc, body, doc.Manifest)
		}
		if image.Index == nil {
			image.Index = body
		}
		child, err := manifest.Choose(doc.Index, f.platform)
		if err != nil {
			return nil, f.noImage(desc, err)
		}
		at = head{desc: child}
	}
	return nil, f.noImage(image.Ref, errdefs.ErrInvalidArgument.WithMessage("its indexes lead to indexes without end"))
}

// start finds what the reference points at. By digest nothing needs to be asked where it is here.
func (f finder) start(ctx context.Context, what string) (head, error) {
	if dgst := digest.Digest(what); dgst.Validate() == nil {
		if desc := (ocispec.Descriptor{Digest: dgst}); f.here(ctx, desc) != nil {
			return head{desc: desc}, nil
		}
	}
	at, err := f.resolve(ctx, what)
	if at.body == nil {
		at.desc.Size = 0 // of a HEAD; nobody vouches for it
	}
	return at, err
}

// document returns an index or a manifest, from here or the registry, verified and kept. A size of 0
// means that it is not known.
func (f finder) document(ctx context.Context, at head) (ocispec.Descriptor, []byte, error) {
	desc := at.desc
	if body := f.here(ctx, desc); body != nil {
		desc.Size = int64(len(body))
		return desc, body, nil
	}
	body := at.body
	if body == nil {
		if desc.Size > manifest.MaxSize {
			return desc, nil, f.tooLarge(desc.Digest.String())
		}
		got, fetched, err := f.fetchManifest(ctx, desc.Digest.String())
		if err != nil {
			return desc, nil, err
		}
		if body = fetched; desc.Size == 0 {
			desc.Size = got.Size
		}
	}
	if err := manifest.Verify(desc, body); err != nil {
		return desc, nil, f.noImage(desc, err)
	}
	doc, err := manifest.Parse(desc.MediaType, body)
	if err != nil {
		return desc, nil, f.noImage(desc, err)
	}
	desc.MediaType = doc.MediaType
	return desc, body, f.keep(ctx, desc, body)
}

// here returns a document that needs not be fetched, or nil.
func (f finder) here(ctx context.Context, desc ocispec.Descriptor) []byte {
	body, err := f.kept.Blob(ctx, desc)
	if err != nil || desc.Size != 0 && int64(len(body)) != desc.Size || manifest.VerifyDigest(desc.Digest, body) != nil {
		return nil
	}
	return body
}

func (f finder) keep(ctx context.Context, desc ocispec.Descriptor, body []byte) error {
	if err := f.kept.PutBlob(ctx, desc, body); err != nil {
		return fmt.Errorf("keep %s: %w", desc.Digest, err)
	}
	return nil
}

// finish fetches the config and puts together what belongs together.
func (f finder) finish(ctx context.Context, image *Image, desc ocispec.Descriptor, body []byte, m *ocispec.Manifest) (*Image, error) {
	if err := manifest.CheckImage(m); err != nil {
		return nil, f.noImage(desc, err)
	}
	config, err := f.config(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	parsed, err := manifest.ParseConfig(config)
	if err == nil {
		err = manifest.CheckLayers(m, parsed)
	}
	if err == nil {
		err = manifest.CheckPlatform(parsed.Platform, f.platform)
	}
	if err != nil {
		return nil, f.noImage(desc, err)
	}
	image.Manifest, image.ManifestBytes = desc, body
	image.Config, image.ConfigBytes = m.Config, config
	image.Platform = parsed.Platform
	for i, l := range m.Layers {
		image.Layers = append(image.Layers, Layer{Blob: l, DiffID: parsed.DiffIDs[i]})
	}
	return image, nil
}

func (f finder) config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if body := f.here(ctx, desc); body != nil {
		return body, nil
	}
	body, err := f.readSmall(ctx, desc)
	if err != nil {
		return nil, err
	}
	return body, f.keep(ctx, desc, body)
}

// noImage names what a sentence of package manifest is about. The kind stays.
func (f finder) noImage(desc ocispec.Descriptor, err error) error {
	return say(err, nil, "%s@%s can't be used: %v", reference.FamiliarName(f.name), desc.Digest, err)
}
