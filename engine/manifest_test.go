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
	other.Form = image.Form{Manifest: &manifest, Layers: []ocispec.Descriptor{layer}}
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

// TestForms: an image that came in several forms has them all; a name stands for the one that it was pulled in, and so
// does one that is made of it. A form goes with the last name that stands for it.
func TestForms(t *testing.T) {
	e := stores(t)
	built := addImage(t, e)
	forms := map[string]image.Form{}
	bring := func(name string) {
		t.Helper()
		l := e.leases.lease()
		manifest, layer := blobOf(t, e, name+" manifest"), blobOf(t, e, name+" layer")
		forms[name] = image.Form{Manifest: &manifest, Layers: []ocispec.Descriptor{layer}}
		img := image.Image{ID: built.ID, DiffIDs: built.DiffIDs, Form: forms[name]}
		l.hold(belongings(img)...)
		img, err := e.record(l, img)
		if err == nil {
			err = e.tag(named(t, name+":1"), img.ID, img.Root())
		}
		if e.endWork(l, &err); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, blobs []string, names map[string]string) {
		t.Helper()
		want := []digest.Digest{built.ID}
		for _, form := range blobs {
			want = append(want, blobsOf(forms[form])...)
		}
		here, err := e.content.Digests()
		slices.Sort(here)
		slices.Sort(want)
		if err != nil || !slices.Equal(here, want) {
			t.Errorf("%s: blobs %v, %v, want %v", when, here, err, want)
		}
		for name, form := range names {
			img, err := e.InspectImage(name)
			if err != nil || img.Root() != forms[form].Root() {
				t.Errorf("%s: %s is %s, %v, want that of %s", when, name, img.Root(), err, form)
			}
		}
		noLeases(t, e)
	}
	l := e.leases.lease()
	pushed, err := e.manifestOf(t.Context(), l, built)
	if e.endWork(l, &err); err != nil {
		t.Fatal(err)
	}
	now, err := e.images.Get(built.ID)
	if err != nil || now.Root() != pushed.Digest {
		t.Fatal(now, err)
	}
	forms["built"] = now.Form
	if err := e.tag(named(t, "built:1"), built.ID, ""); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first", "second", "third"} {
		bring(name)
	}
	if err := errors.Join(e.Tag("first:1", "copy:1"), e.Tag(built.ID.String(), "id:1")); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"built:1": "built", "first:1": "first", "copy:1": "first", "second:1": "second", "third:1": "third", "id:1": "third"}
	check("all", []string{"built", "first", "second", "third"}, all)
	bring("second") // again
	check("the second again", []string{"built", "first", "second", "third"}, all)
	for _, c := range []struct {
		remove string
		blobs  []string
	}{
		{"built:1", []string{"first", "second", "third"}},
		{"first:1", []string{"first", "second", "third"}},
		{"copy:1", []string{"second", "third"}},
		{"second:1", []string{"second", "third"}}, // it is the first: what has no form of its own is pushed so
		{"third:1", []string{"second", "third"}},
		{"id:1", nil},
	} {
		if _, err := e.RemoveImage(c.remove, false); err != nil {
			t.Fatal(err)
		}
		if delete(all, c.remove); len(all) > 0 {
			check("without "+c.remove, c.blobs, all)
		}
	}
	nothingIsLeft(t, e)
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
