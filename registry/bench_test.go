package registry

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image/manifest"
)

// drain is a Target that reads layers and keeps nothing.
type drain struct{ nowhere }

func (drain) HasLayer(context.Context, ocispec.Descriptor, digest.Digest) (bool, error) {
	return false, nil
}
func (drain) PutLayer(_ context.Context, _ ocispec.Descriptor, _ digest.Digest, r io.Reader) error {
	_, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, make([]byte, 256<<10))
	return err
}

// BenchmarkPull says what the client itself costs: HTTP on loopback and sha256, by how many layers come
// together.
func BenchmarkPull(b *testing.B) {
	f := newFake()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	config := ocispec.Image{Platform: amd64(), RootFS: ocispec.RootFS{Type: "layers"}}
	total := int64(0)
	for i := range 6 {
		layer := make([]byte, 32<<20)
		layer[0] = byte(i)
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: f.addBlob("i", layer), Size: int64(len(layer))})
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, m.Layers[i].Digest)
		total += int64(len(layer))
	}
	text := mustJSON(b, config)
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: f.addBlob("i", text), Size: int64(len(text))}
	f.addManifest("i", "latest", m.MediaType, mustJSON(b, m))
	if err := manifest.CheckImage(&m); err != nil {
		b.Fatal(err)
	}
	for _, together := range []int{1, 2, 3, 6} {
		b.Run(fmt.Sprint(together), func(b *testing.B) {
			b.SetBytes(total)
			c, err := New(Options{Downloads: together})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			host := serveFake(b, f)
			for b.Loop() {
				if _, err := c.Pull(b.Context(), named(b, host+"/i"), PullOptions{}, drain{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
