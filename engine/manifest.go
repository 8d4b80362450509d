package engine

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/berth-engine/berth/content"
	"github.com/berth-engine/berth/image"
	kgzip "github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// manifestOf returns the manifest that an image came with or was given before; one that was built or
// committed here gets it now, with its layers compressed. The lease holds the image, and then those.
func (e *Engine) manifestOf(ctx context.Context, l *lease, img image.Image) (ocispec.Descriptor, error) {
	if img.Manifest != nil {
		return *img.Manifest, nil
	}
	cfg, err := e.content.Info(img.ID)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: img.ID, Size: cfg.Size},
	}
	for _, d := range img.DiffIDs {
		blob, err := e.compressed(ctx, l, d)
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("compress layer %s: %w", d, err)
		}
		m.Layers = append(m.Layers, blob)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	l.hold(desc.Digest)
	if _, err := e.content.Put(ctx, desc.Digest, bytes.NewReader(raw)); err != nil {
		return ocispec.Descriptor{}, err
	}
	err = e.images.Update(img.ID, func(old image.Image, found bool) (image.Image, error) {
		if !found { // removed meanwhile
			return old, image.NotFound(img.ID.String())
		}
		if img = old; img.Manifest == nil {
			img.Form = image.Form{Manifest: &desc, Layers: m.Layers}
		}
		return img, nil
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if img.Manifest.Digest != desc.Digest { // it was pulled, or pushed, meanwhile
		l.hold(belongings(img)...)
		l.doubt()
	}
	return *img.Manifest, nil
}

// compressed returns the gzip of a layer: the blob that another image knows it by, or a new one.
func (e *Engine) compressed(ctx context.Context, l *lease, d digest.Digest) (ocispec.Descriptor, error) {
	if blob, ok := e.knownBlob(d); ok {
		l.hold(blob.Digest)
		if blob.Digest == d {
			return blob, nil
		}
		if _, err := e.content.Info(blob.Digest); err == nil {
			return blob, nil
		}
	}
	tar, err := e.layers.Tar(d)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer tar.Close()
	w, err := e.content.Create(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := gzipTo(w, tar); err != nil {
		return ocispec.Descriptor{}, errors.Join(err, w.Abort())
	}
	l.hold(w.Digest())
	info, err := w.Commit(ctx, "")
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: info.Digest, Size: info.Size}, err
}

func gzipTo(w *content.Writer, tar io.Reader) error {
	z, err := kgzip.NewWriterLevel(w, gzip.DefaultCompression)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, tar); err != nil {
		return err
	}
	return z.Close()
}

// knownBlob looks for an image whose manifest has the layer.
func (e *Engine) knownBlob(d digest.Digest) (ocispec.Descriptor, bool) {
	images, err := e.images.List()
	if err != nil {
		return ocispec.Descriptor{}, false // only saves work
	}
	for _, img := range images {
		for _, l := range sources(img, d) {
			if e.hasBlob(l.Digest) {
				return ocispec.Descriptor{MediaType: mediaTypeOCI(l), Digest: l.Digest, Size: l.Size}, true
			}
		}
	}
	return ocispec.Descriptor{}, false
}

// sources describe the blobs that an image has a layer of.
func sources(img image.Image, layer digest.Digest) (all []ocispec.Descriptor) {
	at := slices.Index(img.DiffIDs, layer)
	for _, f := range img.Forms() {
		if at >= 0 && at < len(f.Layers) {
			all = append(all, f.Layers[at])
		}
	}
	return all
}

// mediaTypeOCI is the OCI word for a layer's media type in Docker's.
func mediaTypeOCI(d ocispec.Descriptor) string {
	switch d.MediaType {
	case "application/vnd.docker.image.rootfs.diff.tar.gzip":
		return ocispec.MediaTypeImageLayerGzip
	case "application/vnd.docker.image.rootfs.diff.tar":
		return ocispec.MediaTypeImageLayer
	}
	return d.MediaType
}
