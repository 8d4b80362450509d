package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/berth-engine/berth/content"
	"github.com/berth-engine/berth/image/archive"
	"github.com/berth-engine/berth/image/manifest"
	"github.com/berth-engine/berth/layer"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

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
