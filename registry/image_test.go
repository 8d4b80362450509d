package registry

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image/manifest"
)

// testImage is an image whose layers are any bytes: nobody here reads them as tars.
type testImage struct {
	root     ocispec.Descriptor // index where there is one, else the manifest
	manifest ocispec.Descriptor
	config   ocispec.Descriptor
	layers   []Layer
	blobs    map[digest.Digest][]byte // all of it
	types    map[digest.Digest]string // of manifests and indexes
}

type imageOptions struct {
	docker   bool // Docker's media types
	platform ocispec.Platform
	sizes    []int // of the uncompressed layers
	seed     uint64
}

func amd64() ocispec.Platform { return ocispec.Platform{OS: "linux", Architecture: "amd64"} }

func makeImage(t *testing.T, o imageOptions) *testImage {
	t.Helper()
	if o.platform.OS == "" {
		o.platform = amd64()
	}
	im := &testImage{blobs: map[digest.Digest][]byte{}, types: map[digest.Digest]string{}}
	layerType, configType, manifestType := ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageManifest
	if o.docker {
		layerType, configType, manifestType = "application/vnd.docker.image.rootfs.diff.tar.gzip", manifest.DockerConfig, manifest.DockerManifest
	}
	rng := rand.New(rand.NewPCG(o.seed, 1))
	config := ocispec.Image{Platform: o.platform, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{MediaType: manifestType}
	m.SchemaVersion = 2
	for _, size := range o.sizes {
		raw := make([]byte, size)
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		if _, err := z.Write(raw); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		l := Layer{Blob: im.add(layerType, zipped.Bytes()), DiffID: digest.FromBytes(raw)}
		im.layers = append(im.layers, l)
		m.Layers = append(m.Layers, l.Blob)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
	}
	im.config = im.add(configType, mustJSON(t, config))
	m.Config = im.config
	im.manifest = im.add(manifestType, mustJSON(t, m))
	im.types[im.manifest.Digest] = manifestType
	im.root = im.manifest
	return im
}

// makeIndex puts images under one index, with an attestation of the first.
func makeIndex(t *testing.T, docker bool, images ...*testImage) *testImage {
	t.Helper()
	all := &testImage{blobs: map[digest.Digest][]byte{}, types: map[digest.Digest]string{}}
	indexType := ocispec.MediaTypeImageIndex
	if docker {
		indexType = manifest.DockerIndex
	}
	index := ocispec.Index{MediaType: indexType}
	index.SchemaVersion = 2
	attest := makeImage(t, imageOptions{sizes: []int{10}, seed: 99, platform: ocispec.Platform{OS: "unknown", Architecture: "unknown"}})
	for i, im := range append([]*testImage{attest}, images...) {
		for d, b := range im.blobs {
			all.blobs[d] = b
		}
		for d, mt := range im.types {
			all.types[d] = mt
		}
		var config ocispec.Image
		if err := json.Unmarshal(im.blobs[im.config.Digest], &config); err != nil {
			t.Fatal(err)
		}
		desc := im.manifest
		desc.Platform = &config.Platform
		if i == 0 {
			desc.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
		}
		index.Manifests = append(index.Manifests, desc)
	}
	all.root = all.add(indexType, mustJSON(t, index))
	all.types[all.root.Digest] = indexType
	return all
}

func (im *testImage) add(mediaType string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	im.blobs[d] = b
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// publish puts an image into a fake's repository.
func (im *testImage) publish(f *fake, repo, tag string) {
	for d, b := range im.blobs {
		if mt, ok := im.types[d]; ok {
			f.addManifest(repo, "", mt, b)
		} else {
			f.addBlob(repo, b)
		}
	}
	f.addManifest(repo, tag, im.types[im.root.Digest], im.blobs[im.root.Digest])
}

// memory is a Target and a Source.
type memory struct {
	t    *testing.T
	from []reference.Named // for Repositories

	mu     sync.Mutex
	blobs  map[digest.Digest][]byte // guarded by mu; documents and compressed layers
	layers map[digest.Digest]bool   // guarded by mu; by diffID
	puts   []digest.Digest          // guarded by mu; layer blobs put, with repeats
	during func(Layer) error        // called while a layer is put
}

func newMemory(t *testing.T) *memory {
	return &memory{t: t, blobs: map[digest.Digest][]byte{}, layers: map[digest.Digest]bool{}}
}

func (m *memory) Blob(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.blobs[d.Digest]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	return b, nil
}

func (m *memory) PutBlob(_ context.Context, d ocispec.Descriptor, b []byte) error {
	if err := manifest.Verify(d, b); err != nil {
		m.t.Errorf("an unverified document was put: %v", err)
	}
	if d.MediaType == "" {
		m.t.Errorf("%s was put without a media type", d.Digest)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d.Digest] = b
	return nil
}

func (m *memory) HasLayer(_ context.Context, _ ocispec.Descriptor, diffID digest.Digest) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.layers[diffID], nil
}

func (m *memory) PutLayer(_ context.Context, d ocispec.Descriptor, diffID digest.Digest, r io.Reader) error {
	m.mu.Lock()
	m.puts = append(m.puts, d.Digest)
	m.mu.Unlock()
	if m.during != nil {
		if err := m.during(Layer{d, diffID}); err != nil {
			return err
		}
	}
	zipped, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("the target's own words: %w", err)
	}
	z, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		return err
	}
	if got := digest.FromBytes(raw); got != diffID {
		return fmt.Errorf("layer is %s, not %s", got, diffID)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d.Digest] = zipped
	m.layers[diffID] = true
	return nil
}

func (m *memory) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	b, err := m.Blob(context.Background(), d)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m *memory) Repositories(context.Context, ocispec.Descriptor) []reference.Named { return m.from }

// hold puts a whole image into memory.
func (m *memory) hold(im *testImage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d, b := range im.blobs {
		m.blobs[d] = b
	}
}

// checkHas fails unless the memory has the image with all its layers.
func (m *memory) checkHas(im *testImage) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range []ocispec.Descriptor{im.root, im.manifest, im.config} {
		if d.Digest != "" && m.blobs[d.Digest] == nil {
			m.t.Errorf("%s %s is missing", d.MediaType, d.Digest)
		}
	}
	for _, l := range im.layers {
		if !m.layers[l.DiffID] || !bytes.Equal(m.blobs[l.Blob.Digest], im.blobs[l.Blob.Digest]) {
			m.t.Errorf("layer %s is missing", l.Blob.Digest)
		}
	}
}

func named(t testing.TB, s string) reference.Named {
	t.Helper()
	n, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		t.Fatal(err)
	}
	return reference.TagNameOnly(n)
}
