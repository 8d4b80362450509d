package engine

import (
	"context"
	"time"

	"github.com/berth-engine/berth/image"
	"github.com/berth-engine/berth/registry"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PullOptions say how an image is pulled.
type PullOptions struct {
	Platform    *ocispec.Platform
	Credentials registry.Credentials // nil: anonymously
	Progress    func(registry.Event)
}

// Pulled is what a pull brought.
type Pulled struct {
	Image  image.Image
	Digest digest.Digest // as the registry knows it
	New    bool          // the name points at something else than before, or at something for the first time
}

// Pull fetches an image and gives it its name and digest here.
func (e *Engine) Pull(ctx context.Context, ref reference.Named, o PullOptions) (_ Pulled, err error) {
	l := e.leases.lease()
	defer e.endWork(l, &err)
	return e.pull(ctx, l, reference.TagNameOnly(ref), o)
}

// Tags lists the tags that a repository has at its registry.
func (e *Engine) Tags(ctx context.Context, repository reference.Named, credentials registry.Credentials) ([]string, error) {
	return e.registry.As(credentials).Tags(ctx, repository)
}

func (e *Engine) pull(ctx context.Context, l *lease, ref reference.Named, o PullOptions) (Pulled, error) {
	got, err := e.registry.As(o.Credentials).Pull(ctx, ref, registry.PullOptions{Platform: o.Platform, Progress: o.Progress}, &incoming{e, l})
	if err != nil {
		return Pulled{}, err
	}
	img := image.Image{ID: got.Config.Digest, Form: image.Form{Manifest: &got.Manifest}, Added: time.Now().UTC()}
	if got.Index != nil {
		img.Index = &got.Ref
	}
	for _, part := range got.Layers {
		img.Layers = append(img.Layers, part.Blob)
		img.DiffIDs = append(img.DiffIDs, part.DiffID)
	}
	if img, err = e.record(l, img); err != nil {
		return Pulled{}, err
	}
	digested, err := reference.WithDigest(reference.TrimNamed(ref), got.Ref.Digest)
	if err != nil {
		return Pulled{}, err
	}
	names := []reference.Named{digested}
	if _, pinned := ref.(reference.Digested); !pinned {
		names = append(names, ref)
	}
	p := Pulled{Image: img, Digest: got.Ref.Digest}
	for _, n := range names {
		before, err := e.images.Tag(n, img.ID, got.Ref.Digest)
		if err != nil {
			return Pulled{}, err
		}
		p.New = p.New || before != img.ID
	}
	e.events.publish("image", "pull", reference.FamiliarString(ref), map[string]string{"name": reference.FamiliarName(ref)})
	return p, nil
}

// record makes the record of an image durable whose blobs and layers are here, and which is named next. Where the image
// is here in another form, it has both, the new one first.
func (e *Engine) record(l *lease, img image.Image) (image.Image, error) {
	l.name(img.ID)
	var err error
	if img.Size, err = e.tarSize(img.DiffIDs); err != nil {
		return image.Image{}, err
	}
	var before image.Image
	err = e.images.Update(img.ID, func(old image.Image, found bool) (image.Image, error) {
		if before = old; found {
			img.Parent, img.Others = old.Parent, old.With(img.Form).Others
		}
		return img, nil
	})
	if err != nil || before.Root() == "" || before.Root() == img.Root() && before.Manifest.Digest == img.Manifest.Digest {
		return img, err
	}
	l.hold(blobsOf(before.Form)...) // of one index with two manifests of the image the last counts
	l.doubt(blobsOf(before.Form)...)
	return img, e.pin(img.ID, before.Root())
}

// pin has names of an image that stood for whichever form it has stand for that of a root: another one comes first now.
func (e *Engine) pin(id, root digest.Digest) error {
	names, err := e.images.Names()
	if err != nil {
		return err
	}
	for _, n := range names[id] {
		if e.images.Root(n, id) != "" {
			continue
		}
		if _, err := e.images.Tag(n, id, root); err != nil {
			return err
		}
	}
	return nil
}

// inForm is an image in the form that a user's words stand for.
func (e *Engine) inForm(img image.Image, user string) image.Image {
	ref, err := image.ParseName(user)
	if err != nil {
		return img
	}
	return img.In(e.images.Root(ref, img.ID))
}

// Login checks a credential with a registry.
func (e *Engine) Login(ctx context.Context, host string, cred registry.Credential) (identityToken string, err error) {
	return e.registry.Login(ctx, host, cred)
}
