package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/berth-engine/berth/content"
	"github.com/berth-engine/berth/image"
	"github.com/berth-engine/berth/image/archive"
	"github.com/berth-engine/berth/image/manifest"
	"github.com/berth-engine/berth/layer"
	"github.com/berth-engine/berth/registry"
	"github.com/containerd/errdefs"
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
	for _, d := range img.DiffIDs {
		found, err := e.layers.Get(d)
		if err != nil {
			return image.Image{}, err
		}
		img.Size += found.TarSize
	}
	err := e.images.Update(img.ID, func(old image.Image, found bool) (image.Image, error) {
		if found {
			img.Parent, img.Others = old.Parent, old.With(img.Form).Others
		}
		return img, nil
	})
	return img, err
}

// inForm is an image in the form that a user's words stand for.
func (e *Engine) inForm(img image.Image, user string) image.Image {
	ref, err := image.ParseName(user)
	if err != nil {
		return img
	}
	return img.In(e.images.Root(ref, img.ID))
}

// incoming takes what a pull or a load brings. Everything is on the lease before it is looked for.
type incoming struct {
	e *Engine
	l *lease
}

// HasLayer also wants the compressed bytes to be here: a layer that was built, or came otherwise compressed, can't give
// them, and the image could not be pushed elsewhere.
func (in *incoming) HasLayer(_ context.Context, blob ocispec.Descriptor, diffID digest.Digest) (bool, error) {
	in.l.hold(blob.Digest, diffID)
	if blob.Digest != diffID {
		if _, err := in.e.content.Info(blob.Digest); errdefs.IsNotFound(err) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	_, err := in.e.layers.Check(diffID)
	if errdefs.IsNotFound(err) || errdefs.IsDataLoss(err) { // one that is damaged is replaced
		return false, nil
	}
	return err == nil, err
}

// PutLayer decompresses into a layer file, and keeps the compressed bytes: gzip can't be made again
// byte by byte, and a push must give the digest that it came with.
func (in *incoming) PutLayer(ctx context.Context, blob ocispec.Descriptor, diffID digest.Digest, compressed io.Reader) error {
	in.l.hold(blob.Digest, diffID)
	_, _, err := in.store(ctx, diffID, compressed)
	return err
}

// store keeps the bytes of a layer's blob and makes the layer of them; want may be "".
func (in *incoming) store(ctx context.Context, want digest.Digest, compressed io.Reader) (layer.Layer, content.Info, error) {
	kept, err := in.e.content.Create(ctx)
	if err != nil {
		return layer.Layer{}, content.Info{}, err
	}
	made, compression, err := in.unpack(ctx, want, io.TeeReader(compressed, kept))
	if err != nil || compression == content.None {
		return made, content.Info{}, errors.Join(err, kept.Abort())
	}
	in.l.hold(kept.Digest())
	info, err := kept.Commit(ctx, "")
	return made, info, err
}

func (in *incoming) unpack(ctx context.Context, want digest.Digest, compressed io.Reader) (layer.Layer, content.Compression, error) {
	tar, compression, err := content.Decompress(compressed)
	if err != nil {
		return layer.Layer{}, "", err
	}
	made, err := in.e.layers.PutHeld(ctx, tar, want, func(d digest.Digest) { in.l.hold(d) })
	if err = errors.Join(err, tar.Close()); err != nil { // its workers read no more
		return layer.Layer{}, "", err
	}
	// What follows the tar belongs to the blob's digest, too.
	_, err = io.Copy(io.Discard, compressed)
	return made, compression, err
}

// Blob returns an index, manifest or config that is here and needs not be fetched.
func (in *incoming) Blob(_ context.Context, desc ocispec.Descriptor) ([]byte, error) {
	in.l.hold(desc.Digest)
	b, err := in.e.content.Open(desc.Digest)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(io.LimitReader(b.Reader(), manifest.MaxSize+1))
}

func (in *incoming) PutBlob(ctx context.Context, desc ocispec.Descriptor, data []byte) error {
	in.l.hold(desc.Digest)
	_, err := in.e.content.Put(ctx, desc.Digest, bytes.NewReader(data))
	return err
}

// layerTar gives a layer's tar from the compressed bytes that came with an image: for a layer whose file is
// damaged.
func (e *Engine) layerTar(_ context.Context, diffID digest.Digest) (io.ReadCloser, error) {
	images, err := e.images.List()
	if err != nil && len(images) == 0 {
		return nil, err
	}
	var all []ocispec.Descriptor
	for _, img := range images {
		all = append(all, sources(img, diffID)...)
	}
	for _, blob := range all {
		b, err := e.content.Open(blob.Digest)
		if errdefs.IsNotFound(err) {
			continue // it came uncompressed
		}
		if err != nil {
			return nil, err
		}
		tar, _, err := content.Decompress(b.Reader())
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		return struct {
			io.Reader
			io.Closer
		}{tar, closers{tar, b}}, nil
	}
	return nil, fmt.Errorf("no image brought layer %s compressed: %w", diffID, errdefs.ErrNotFound)
}

// closers are closed together, in their order.
type closers []io.Closer

func (all closers) Close() error {
	var errs []error
	for _, c := range all {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// importLayer makes a layer of a tar, compressed or not, without keeping the compressed bytes.
func (e *Engine) importLayer(ctx context.Context, l *lease, r io.Reader) (layer.Layer, error) {
	made, _, err := (&incoming{e, l}).unpack(ctx, "", r)
	return made, err
}

// FindLayer and AddLayer make incoming an archive.Target.
func (in *incoming) FindLayer(_ context.Context, blob digest.Digest) (archive.Layer, bool, error) {
	in.l.hold(blob)
	if found, err := in.e.layers.Check(blob); err == nil { // an uncompressed layer's blob is its tar
		return archive.Layer{Blob: tarDescriptor(found), DiffID: found.DiffID}, true, nil
	} else if !errdefs.IsNotFound(err) && !errdefs.IsDataLoss(err) { // one that is damaged is replaced
		return archive.Layer{}, false, err
	}
	return archive.Layer{}, false, nil
}

// AddLayer stores a layer from an archive.
func (in *incoming) AddLayer(ctx context.Context, r io.Reader) (archive.Layer, error) {
	made, blob, err := in.store(ctx, "", r)
	if err != nil {
		return archive.Layer{}, err
	}
	l := archive.Layer{Blob: tarDescriptor(made), DiffID: made.DiffID}
	if blob.Digest != "" {
		l.Blob = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: blob.Digest, Size: blob.Size}
	}
	return l, nil
}

func tarDescriptor(l layer.Layer) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.DiffID, Size: l.TarSize}
}

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
	if _, err := e.images.Get(img.ID); err == nil { // else it was removed meanwhile, and needs no name
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
		if *img, err = e.holdImage(l, found.ID); err != nil {
			return Pushed{}, err
		}
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

// Login checks a credential with a registry.
func (e *Engine) Login(ctx context.Context, host string, cred registry.Credential) (identityToken string, err error) {
	return e.registry.Login(ctx, host, cred)
}
