package engine

import (
	"archive/tar"
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image"
)

// blobOf keeps a blob, and describes it.
func blobOf(t *testing.T, e *Engine, data string) ocispec.Descriptor {
	t.Helper()
	d := digest.FromString(data)
	if _, err := e.content.Put(t.Context(), d, bytes.NewReader([]byte(data))); err != nil {
		t.Fatal(err)
	}
	return ocispec.Descriptor{Digest: d, Size: int64(len(data))}
}

// TestManifestOfRemoved: an image that is removed while it gets its manifest does not come back, and nothing of what was
// made for it stays.
func TestManifestOfRemoved(t *testing.T) {
	e := stores(t)
	img := addImage(t, e)
	l := e.leases.lease()
	img, err := e.holdImage(l, img.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.RemoveImage(img.ID.String(), false); err != nil {
		t.Fatal(err)
	}
	_, failed := e.manifestOf(t.Context(), l, img)
	if !errdefs.IsNotFound(failed) {
		t.Errorf("a manifest of a removed image: %v", failed)
	}
	e.endWork(l, &failed)
	if _, err := e.images.Get(img.ID); !errdefs.IsNotFound(err) {
		t.Errorf("its record: %v", err)
	}
	nothingIsLeft(t, e)
}

func nothingIsLeft(t *testing.T, e *Engine) {
	t.Helper()
	layers, err := e.layers.DiffIDs()
	if err != nil || len(layers) > 0 {
		t.Errorf("layers: %v, %v", layers, err)
	}
	blobs, err := e.content.Digests()
	if err != nil || len(blobs) > 0 {
		t.Errorf("blobs: %v, %v", blobs, err)
	}
	noLeases(t, e)
}

// TestManifestOfOther: the manifest that an image was given meanwhile is what counts; the one that was being made goes.
func TestManifestOfOther(t *testing.T) {
	e := stores(t)
	img := addImage(t, e)
	l := e.leases.lease()
	other := img
	manifest, layer := blobOf(t, e, "other manifest"), blobOf(t, e, "other layer")
	other.Manifest, other.Layers = &manifest, []ocispec.Descriptor{layer}
	put(t, e.images, other)
	got, err := e.manifestOf(t.Context(), l, img)
	if err != nil || got.Digest != manifest.Digest {
		t.Errorf("%s, %v", got.Digest, err)
	}
	e.endWork(l, &err)
	blobs, err := e.content.Digests()
	want := []digest.Digest{img.ID, manifest.Digest, layer.Digest}
	slices.Sort(blobs)
	slices.Sort(want)
	if err != nil || !slices.Equal(blobs, want) {
		t.Errorf("blobs %v, %v, want %v", blobs, err, want)
	}
	noLeases(t, e)
}

// TestSameImageOtherManifest: of two manifests of an image a pull keeps the one that it brought, a load the one that was
// here, and the blobs of the other go.
func TestSameImageOtherManifest(t *testing.T) {
	for _, known := range []int{renewed, kept} {
		e := stores(t)
		built := addImage(t, e)
		bring := func(name string, known int) image.Image {
			t.Helper()
			l := e.leases.lease()
			manifest, layer := blobOf(t, e, name+" manifest"), blobOf(t, e, name+" layer")
			img := image.Image{ID: built.ID, DiffIDs: built.DiffIDs, Manifest: &manifest, Layers: []ocispec.Descriptor{layer}}
			l.hold(belongings(img)...)
			img, err := e.record(l, img, known)
			if err != nil {
				t.Fatal(err)
			}
			e.endWork(l, &err)
			return img
		}
		first := bring("first", kept) // it had none
		second := bring("second", known)
		now, err := e.images.Get(built.ID)
		if err != nil || now.Manifest.Digest != second.Manifest.Digest {
			t.Errorf("record %+v, %v", now, err)
		}
		if same := now.Manifest.Digest == first.Manifest.Digest; same != (known == kept) {
			t.Errorf("known %d: the first manifest stayed: %v", known, same)
		}
		want := []digest.Digest{built.ID, now.Manifest.Digest, now.Layers[0].Digest}
		blobs, err := e.content.Digests()
		slices.Sort(blobs)
		slices.Sort(want)
		if err != nil || !slices.Equal(blobs, want) {
			t.Errorf("blobs %v, %v, want %v", blobs, err, want)
		}
		noLeases(t, e)
	}
}

// remover removes an image at the first byte that it is given.
type remover struct {
	bytes.Buffer
	remove func()
}

func (r *remover) Write(b []byte) (int, error) {
	if r.remove != nil {
		r.remove()
		r.remove = nil
	}
	return r.Buffer.Write(b)
}

// TestSaveMeetsRemoval: an image that is removed while it is saved is saved whole, and gone afterwards.
func TestSaveMeetsRemoval(t *testing.T) {
	e := stores(t)
	img := addImage(t, e)
	w := &remover{remove: func() {
		if _, err := e.RemoveImage(img.ID.String(), false); err != nil {
			t.Error(err)
		}
	}}
	if err := e.Save(t.Context(), []string{img.ID.String()}, w); err != nil {
		t.Fatal(err)
	}
	nothingIsLeft(t, e)
	loaded, err := e.Load(t.Context(), &w.Buffer, nil, nil)
	if err != nil || len(loaded) != 1 || loaded[0].Image.ID != img.ID {
		t.Errorf("loaded again: %+v, %v", loaded, err)
	}
}

// TestHasLayer: a layer is not fetched again only where its bytes are here too as the registry has them.
func TestHasLayer(t *testing.T) {
	e := stores(t)
	img := addImage(t, e)
	diffID, compressed := img.DiffIDs[0], blobOf(t, e, "compressed")
	in := &incoming{e, e.leases.lease()}
	defer e.endLease(in.l)
	for _, c := range []struct {
		name   string
		blob   digest.Digest
		diffID digest.Digest
		want   bool
	}{
		{"both", compressed.Digest, diffID, true},
		{"without the compressed bytes", digest.FromString("otherwise compressed"), diffID, false},
		{"uncompressed", diffID, diffID, true},
		{"without the layer", compressed.Digest, digest.FromString("no layer"), false},
	} {
		if have, err := in.HasLayer(t.Context(), ocispec.Descriptor{Digest: c.blob}, c.diffID); have != c.want || err != nil {
			t.Errorf("%s: %v, %v", c.name, have, err)
		}
	}
}

// TestPutLayerThatIsHere: the bytes that come for a layer that is here are kept as they came, and refused where they are
// another layer's: they would be pushed as this one's.
func TestPutLayerThatIsHere(t *testing.T) {
	e := stores(t)
	tarOf := func(seed uint64) []byte {
		data := make([]byte, 3<<20)
		_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(data)
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		err := w.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))})
		_, written := w.Write(data)
		if err := errors.Join(err, written, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := tarOf(1)
	layer, err := e.layers.Put(t.Context(), bytes.NewReader(plain), "")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		compressed []byte
		is         func(error) bool
	}{
		"its own":           {z.EncodeAll(plain, nil), isNil},
		"its own, and more": {append(z.EncodeAll(plain, nil), z.EncodeAll([]byte("more"), nil)...), errdefs.IsInvalidArgument},
		"another's":         {z.EncodeAll(tarOf(2), nil), errdefs.IsInvalidArgument},
	} {
		for range 10 {
			in := &incoming{e, e.leases.lease()}
			blob := ocispec.Descriptor{Digest: digest.FromBytes(c.compressed), Size: int64(len(c.compressed))}
			err := in.PutLayer(t.Context(), blob, layer.DiffID, bytes.NewReader(c.compressed))
			if _, kept := e.content.Info(blob.Digest); !c.is(err) || (kept == nil) != (err == nil) {
				t.Errorf("%s: %v, blob: %v", name, err, kept)
			}
			in.l.end()
			if _, err := e.content.Delete(blob.Digest); err != nil && !errdefs.IsNotFound(err) {
				t.Fatal(err)
			}
		}
	}
}
