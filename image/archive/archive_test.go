package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image/manifest"
)

// memory is a Target and a Source.
type memory struct {
	blobs  map[digest.Digest][]byte
	layers map[digest.Digest]Layer // by blob
	added  int
	full   error // what AddLayer fails with
}

func newMemory() *memory {
	return &memory{blobs: map[digest.Digest][]byte{}, layers: map[digest.Digest]Layer{}}
}

func (m *memory) FindLayer(_ context.Context, blob digest.Digest) (Layer, bool, error) {
	l, ok := m.layers[blob]
	return l, ok, nil
}

func (m *memory) AddLayer(_ context.Context, r io.Reader) (Layer, error) {
	if m.full != nil {
		return Layer{}, m.full
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return Layer{}, fmt.Errorf("the target's own words: %w", err)
	}
	raw := b
	if isGzip(b) {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return Layer{}, err
		}
		if raw, err = io.ReadAll(z); err != nil {
			return Layer{}, err
		}
	}
	entries := tar.NewReader(bytes.NewReader(raw))
	for {
		if _, err := entries.Next(); err == io.EOF {
			break
		} else if err != nil {
			return Layer{}, errdefs.ErrInvalidArgument.WithMessage("no tar: " + err.Error())
		}
	}
	l := Layer{Blob: ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}, DiffID: digest.FromBytes(raw)}
	m.blobs[l.Blob.Digest], m.layers[l.Blob.Digest] = b, l
	m.added++
	return l, nil
}

func (m *memory) PutBlob(_ context.Context, d ocispec.Descriptor, b []byte) error {
	if err := manifest.Verify(d, b); err != nil {
		return err
	}
	m.blobs[d.Digest] = b
	return nil
}

func (m *memory) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	b, ok := m.blobs[d.Digest]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m *memory) put(mediaType string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	m.blobs[d] = b
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// layerTar is a tar with one file.
func layerTar(t testing.TB, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func configOf(t testing.TB, p ocispec.Platform, layers ...[]byte) []byte {
	t.Helper()
	c := ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(l))
	}
	return mustJSON(t, c)
}

func amd64() ocispec.Platform { return ocispec.Platform{OS: "linux", Architecture: "amd64"} }
func s390x() ocispec.Platform { return ocispec.Platform{OS: "linux", Architecture: "s390x"} }

// makeImage puts an image with two layers, one of them compressed, into m.
func makeImage(t testing.TB, m *memory, p ocispec.Platform, text string) ocispec.Descriptor {
	t.Helper()
	a, b := layerTar(t, "a", text), layerTar(t, "b", strings.Repeat(text, 5000))
	im := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: m.put(ocispec.MediaTypeImageConfig, configOf(t, p, a, b)),
		Layers: []ocispec.Descriptor{m.put(ocispec.MediaTypeImageLayer, a), m.put(ocispec.MediaTypeImageLayerGzip, gzipped(t, b))},
	}
	return m.put(im.MediaType, mustJSON(t, im))
}

func makeIndex(t testing.TB, m *memory, entries ...ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries}
	return m.put(index.MediaType, mustJSON(t, index))
}

func on(d ocispec.Descriptor, p ocispec.Platform) ocispec.Descriptor {
	d.Platform = &p
	return d
}

func tags(t testing.TB, names ...string) []reference.NamedTagged {
	t.Helper()
	var all []reference.NamedTagged
	for _, n := range names {
		r, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, reference.TagNameOnly(r).(reference.NamedTagged))
	}
	return all
}

func tagNames(im Image) []string {
	var all []string
	for _, t := range im.Tags {
		all = append(all, t.String())
	}
	return all
}

func read(t *testing.T, archive []byte, o ReadOptions) ([]Image, *memory, error) {
	t.Helper()
	dst := newMemory()
	o.TempDir = t.TempDir()
	images, err := Read(t.Context(), bytes.NewReader(archive), o, dst)
	if left, e := os.ReadDir(o.TempDir); e != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, e)
	}
	return images, dst, err
}

func TestThereAndBack(t *testing.T) {
	src := newMemory()
	one, two := makeImage(t, src, amd64(), "one"), makeImage(t, src, amd64(), "two")
	foreign := makeImage(t, src, s390x(), "foreign")
	attestation := makeImage(t, src, ocispec.Platform{OS: "unknown", Architecture: "unknown"}, "attestation")
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 3, Platform: &ocispec.Platform{OS: "linux", Architecture: "riscv64"}}
	index := makeIndex(t, src, attestation, on(foreign, s390x()), on(one, amd64()), absent)
	for _, tt := range []struct {
		name     string
		in       []Named
		platform *ocispec.Platform
		want     []Image // Tags, Ref and Manifest
	}{
		{"one image", []Named{{one, tags(t, "x:v1", "example.com:5000/y")}}, nil, []Image{{Tags: tags(t, "x:v1", "example.com:5000/y"), Ref: one, Manifest: one}}},
		{"without a name", []Named{{one, nil}}, nil, []Image{{Ref: one, Manifest: one}}},
		{"two images with a layer in common", []Named{{one, tags(t, "x")}, {two, tags(t, "x:other")}}, nil,
			[]Image{{Tags: tags(t, "x"), Ref: one, Manifest: one}, {Tags: tags(t, "x:other"), Ref: two, Manifest: two}}},
		{"an index, of which one child isn't here", []Named{{index, tags(t, "multi")}}, nil, []Image{{Tags: tags(t, "multi"), Ref: index, Manifest: one}}},
		{"another platform of it", []Named{{index, tags(t, "multi")}}, ptr(s390x()), []Image{{Tags: tags(t, "multi"), Ref: index, Manifest: foreign}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var archive, again bytes.Buffer
			for _, w := range []*bytes.Buffer{&archive, &again} {
				if err := Write(t.Context(), w, tt.in, src); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(archive.Bytes(), again.Bytes()) {
				t.Error("the same images gave other bytes")
			}
			got, dst, err := read(t, archive.Bytes(), ReadOptions{Platform: tt.platform})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("%d images, want %d", len(got), len(tt.want))
			}
			for i, want := range tt.want {
				if !reflect.DeepEqual(tagNames(got[i]), tagNames(want)) || got[i].Ref.Digest != want.Ref.Digest || got[i].Manifest.Digest != want.Manifest.Digest {
					t.Errorf("got %+v\nwant %+v", got[i], want)
				}
				if len(got[i].Layers) != 2 || got[i].Layers[1].Blob.MediaType != ocispec.MediaTypeImageLayerGzip {
					t.Errorf("layers %+v", got[i].Layers)
				}
				for _, d := range []ocispec.Descriptor{got[i].Ref, got[i].Manifest, got[i].Config, got[i].Layers[0].Blob, got[i].Layers[1].Blob} {
					if !bytes.Equal(dst.blobs[d.Digest], src.blobs[d.Digest]) {
						t.Errorf("%s %s is missing", d.MediaType, d.Digest)
					}
				}
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// TestWritten: what an archive has, entry by entry.
func TestWritten(t *testing.T) {
	src := newMemory()
	one := makeImage(t, src, amd64(), "one")
	var archive bytes.Buffer
	if err := Write(t.Context(), &archive, []Named{{one, tags(t, "x:v1", "x:v2")}}, src); err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(src.blobs[one.Digest], &m); err != nil {
		t.Fatal(err)
	}
	blob := func(d ocispec.Descriptor) string { return "blobs/sha256/" + d.Digest.Encoded() }
	want := []string{"oci-layout", "index.json", "manifest.json", "repositories", "blobs/", "blobs/sha256/", blob(one), blob(m.Config), blob(m.Layers[0]), blob(m.Layers[1])}
	texts := map[string]string{}
	var names []string
	entries := tar.NewReader(&archive)
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s tells of its maker: %+v", h.Name, h)
		}
		b, err := io.ReadAll(entries)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		texts[h.Name] = strings.TrimSpace(string(b))
	}
	if !slices.Equal(names, want) {
		t.Errorf("entries %q\nwant %q", names, want)
	}
	for name, text := range map[string]string{
		"oci-layout": `{"imageLayoutVersion":"1.0.0"}`,
		"index.json": fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[`+
			`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%[1]s","size":%[2]d,"annotations":{"io.containerd.image.name":"docker.io/library/x:v1","org.opencontainers.image.ref.name":"v1"}},`+
			`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%[1]s","size":%[2]d,"annotations":{"io.containerd.image.name":"docker.io/library/x:v2","org.opencontainers.image.ref.name":"v2"}}]}`, one.Digest, one.Size),
		"manifest.json": fmt.Sprintf(`[{"Config":%q,"RepoTags":["x:v1","x:v2"],"Layers":[%q,%q]}]`, blob(m.Config), blob(m.Layers[0]), blob(m.Layers[1])),
		"repositories":  fmt.Sprintf(`{"x":{"v1":%[1]q,"v2":%[1]q}}`, m.Layers[1].Digest.Encoded()),
	} {
		if texts[name] != text {
			t.Errorf("%s\n got %s\nwant %s", name, texts[name], text)
		}
	}
}

func TestWriteRefusals(t *testing.T) {
	src := newMemory()
	one := makeImage(t, src, amd64(), "one")
	var m ocispec.Manifest
	if err := json.Unmarshal(src.blobs[one.Digest], &m); err != nil {
		t.Fatal(err)
	}
	layer := m.Layers[1].Digest
	whole := src.blobs[layer]
	flipped := bytes.Clone(whole)
	flipped[20] ^= 1
	for name, tt := range map[string]struct {
		b    []byte
		kind func(error) bool
		says string
	}{
		"missing":   {nil, errdefs.IsNotFound, layer.String()},
		"damaged":   {flipped, errdefs.IsDataLoss, "is damaged on this machine"},
		"short":     {whole[:50], errdefs.IsDataLoss, "has 50 bytes on this machine where"},
		"too long":  {append(bytes.Clone(whole), 1), errdefs.IsDataLoss, "more bytes on this machine than"},
		"unbounded": {append(bytes.Clone(whole), make([]byte, 1<<20)...), errdefs.IsDataLoss, "more bytes on this machine than"},
	} {
		t.Run(name, func(t *testing.T) {
			src.blobs[layer] = tt.b
			if tt.b == nil {
				delete(src.blobs, layer)
			}
			var out bytes.Buffer
			err := Write(t.Context(), &out, []Named{{one, nil}}, src)
			if !tt.kind(err) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v", err)
			}
			if tt.b == nil && out.Len() > 0 {
				t.Error("something was written before it was clear that all is here")
			}
		})
	}
	if err := Write(t.Context(), io.Discard, []Named{{ocispec.Descriptor{Digest: digest.FromString("x")}, nil}}, src); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	nothing := makeIndex(t, src, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 3, Platform: ptr(amd64())})
	if err := Write(t.Context(), io.Discard, []Named{{nothing, nil}}, src); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "none of its images is on this machine") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTest)
	src.blobs[layer] = whole
	if err := Write(ctx, io.Discard, []Named{{one, nil}}, src); !errors.Is(err, errTest) {
		t.Error(err)
	}
}

var errTest = errors.New("test")

// TestCompressed: the archive as a whole may be compressed, as `docker save | gzip` makes it.
func TestCompressed(t *testing.T) {
	src := newMemory()
	one := makeImage(t, src, amd64(), "one")
	var plain, zstded bytes.Buffer
	if err := Write(t.Context(), &plain, []Named{{one, tags(t, "x")}}, src); err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(&zstded)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, archive := range map[string][]byte{"gzip": gzipped(t, plain.Bytes()), "zstd": zstded.Bytes()} {
		t.Run(name, func(t *testing.T) {
			got, _, err := read(t, archive, ReadOptions{})
			if err != nil || len(got) != 1 || got[0].Ref.Digest != one.Digest {
				t.Errorf("%+v, %v", got, err)
			}
			if _, _, err := read(t, archive[:len(archive)/2], ReadOptions{}); !errdefs.IsDataLoss(err) {
				t.Errorf("cut in half: %v", err)
			}
			if _, _, err := read(t, archive[:len(archive)-3], ReadOptions{}); err == nil {
				t.Error("without its last bytes it was taken")
			}
			flipped := bytes.Clone(archive)
			flipped[len(flipped)/2] ^= 4
			if _, _, err := read(t, flipped, ReadOptions{}); err == nil {
				t.Error("with a flipped bit it was taken")
			}
		})
	}
}

// entry is an entry of a tar that is made by hand.
type entry struct {
	name string
	body []byte
	link string
	kind byte // 0: a file
}

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Size: int64(len(e.body)), Mode: 0o644, Typeflag: tar.TypeReg}
		if e.kind != 0 {
			h.Typeflag = e.kind
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestDockerArchives reads the forms that `docker save` and its kin have had.
func TestDockerArchives(t *testing.T) {
	base, top := layerTar(t, "base", "base"), layerTar(t, "top", "top")
	empty := make([]byte, 1024)
	config := configOf(t, amd64(), base, top, base, empty)
	id := digest.FromBytes(config)
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	list := func(config string, layers ...string) []byte {
		return mustJSON(t, []dockerImage{{Config: config, RepoTags: []string{"x:v1", "example.com/y:v2"}, Layers: layers}})
	}
	for name, entries := range map[string][]entry{
		"docker 1.10 to 24": {
			{name: a + "/", kind: tar.TypeDir}, {name: a + "/VERSION", body: []byte("1.0")}, {name: a + "/json", body: []byte(`{"id":"x"}`)}, {name: a + "/layer.tar", body: base},
			{name: b + "/layer.tar", body: top}, {name: b + "/again.tar", kind: tar.TypeSymlink, link: "../" + a + "/layer.tar"}, {name: "empty/layer.tar", body: empty},
			{name: id.Encoded() + ".json", body: config},
			{name: manifestFile, body: list(id.Encoded()+".json", a+"/layer.tar", b+"/layer.tar", b+"/again.tar", "empty/layer.tar")},
			{name: repositoriesFile, body: []byte(`{"x":{"v1":"` + b + `"}}`)},
		},
		"manifest first, compressed, hard link": {
			{name: "./manifest.json", body: list("./config.json", "1.tar", "2.tar", "3.tar", "4.tar")}, {name: "config.json", body: config},
			{name: "1.tar", body: gzipped(t, base)}, {name: "2.tar", body: gzipped(t, top)}, {name: "3.tar", kind: tar.TypeLink, link: "1.tar"}, {name: "4.tar", body: gzipped(t, empty)},
		},
		"docker 25, without an index": {
			{name: "blobs/sha256/" + digest.FromBytes(base).Encoded(), body: base}, {name: "blobs/sha256/" + digest.FromBytes(top).Encoded(), body: top},
			{name: "blobs/sha256/" + digest.FromBytes(empty).Encoded(), body: empty}, {name: "blobs/sha256/" + id.Encoded(), body: config},
			{name: manifestFile, body: list(blobName(id), blobName(digest.FromBytes(base)), blobName(digest.FromBytes(top)), blobName(digest.FromBytes(base)), blobName(digest.FromBytes(empty)))},
		},
	} {
		t.Run(name, func(t *testing.T) {
			archive := makeTar(t, entries...)
			var events []Event
			got, dst, err := read(t, archive, ReadOptions{Progress: func(e Event) { events = append(events, e) }})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0].Config.Digest != id || !slices.Equal(tagNames(got[0]), []string{"docker.io/library/x:v1", "example.com/y:v2"}) {
				t.Fatalf("%+v", got)
			}
			var diffIDs []digest.Digest
			for _, l := range got[0].Layers {
				diffIDs = append(diffIDs, l.DiffID)
			}
			if !slices.Equal(diffIDs, []digest.Digest{digest.FromBytes(base), digest.FromBytes(top), digest.FromBytes(base), digest.FromBytes(empty)}) {
				t.Errorf("layers %v", diffIDs)
			}
			if dst.added != 3 {
				t.Errorf("%d layers were added, three differ", dst.added)
			}
			doc, err := manifest.Parse("", dst.blobs[got[0].Manifest.Digest])
			if err != nil || doc.Manifest.Config.Digest != id || len(doc.Manifest.Layers) != 4 || manifest.CheckImage(doc.Manifest) != nil {
				t.Errorf("its manifest: %+v, %v", doc, err)
			}
			done := 0
			for _, e := range events {
				if e.Done {
					done++
				}
				if e.Current > e.Total || e.Name == "" {
					t.Errorf("%+v", e)
				}
			}
			if done != 3 {
				t.Errorf("%d layers were told to be done", done)
			}
			// Once more into the same place, where the layers' names say what they are.
			dst.added = 0
			if _, err := Read(t.Context(), bytes.NewReader(archive), ReadOptions{}, dst); err != nil {
				t.Error(err)
			}
			if strings.HasPrefix(name, "docker 25") && dst.added != 0 {
				t.Errorf("%d layers were added again", dst.added)
			}
		})
	}
}

// layout is an OCI image layout by hand: blobs, and the descriptors of index.json.
func layout(t testing.TB, m *memory, entries ...ocispec.Descriptor) []byte {
	t.Helper()
	list := []entry{{name: "oci-layout", body: []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	var order []digest.Digest
	for d := range m.blobs {
		order = append(order, d)
	}
	slices.Sort(order)
	for _, d := range order {
		list = append(list, entry{name: blobName(d), body: m.blobs[d]})
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: entries}
	return makeTar(t, append(list, entry{name: "index.json", body: mustJSON(t, index)})...)
}

func TestLayouts(t *testing.T) {
	m := newMemory()
	one, two := makeImage(t, m, amd64(), "one"), makeImage(t, m, s390x(), "two")
	name := func(d ocispec.Descriptor, key, value string) ocispec.Descriptor {
		d.Annotations = map[string]string{key: value}
		return d
	}
	chart := m.put(ocispec.MediaTypeImageManifest, mustJSON(t, map[string]any{
		"schemaVersion": 2, "config": m.put("application/vnd.cncf.helm.config.v1+json", []byte("{}")), "layers": []any{},
	}))
	const ref = ocispec.AnnotationRefName
	for _, tt := range []struct {
		name    string
		entries []ocispec.Descriptor
		want    map[digest.Digest][]string // tags by manifest
		says    string
	}{
		{name: "no name", entries: []ocispec.Descriptor{one}, want: map[digest.Digest][]string{one.Digest: nil}},
		{name: "a tag of nothing", entries: []ocispec.Descriptor{name(one, ref, "latest")}, want: map[digest.Digest][]string{one.Digest: nil}},
		{name: "a name in OCI's place", entries: []ocispec.Descriptor{name(one, ref, "x:v1")}, want: map[digest.Digest][]string{one.Digest: {"docker.io/library/x:v1"}}},
		{name: "containerd's name", entries: []ocispec.Descriptor{name(one, containerdName, "ghcr.io/x/y:v1")}, want: map[digest.Digest][]string{one.Digest: {"ghcr.io/x/y:v1"}}},
		{name: "a digest for a name", entries: []ocispec.Descriptor{name(one, containerdName, "ghcr.io/x/y@"+one.Digest.String())}, want: map[digest.Digest][]string{one.Digest: nil}},
		{name: "several platforms side by side", entries: []ocispec.Descriptor{on(two, s390x()), on(one, amd64())}, want: map[digest.Digest][]string{one.Digest: nil}},
		{name: "an index", entries: []ocispec.Descriptor{name(makeIndex(t, m, on(two, s390x()), on(one, amd64())), ref, "x:v1")}, want: map[digest.Digest][]string{one.Digest: {"docker.io/library/x:v1"}}},
		{name: "two names", entries: []ocispec.Descriptor{name(one, ref, "x:v1"), name(one, ref, "x:v2")}, want: map[digest.Digest][]string{one.Digest: {"docker.io/library/x:v1", "docker.io/library/x:v2"}}},
		{name: "an image and a chart", entries: []ocispec.Descriptor{chart, one}, want: map[digest.Digest][]string{one.Digest: nil}},
		{name: "a chart alone", entries: []ocispec.Descriptor{chart}, says: "no container image: its config is of type"},
		{name: "another platform", entries: []ocispec.Descriptor{makeIndex(t, m, on(two, s390x()))}, says: "no matching manifest for linux/"},
		{name: "a bad name", entries: []ocispec.Descriptor{name(one, containerdName, "UPPER:x y")}, says: "it names an image"},
		{name: "nothing", entries: []ocispec.Descriptor{}, says: "there is no image in it"},
		{name: "what isn't in it", entries: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 6}}, says: "named in it but is not in it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := read(t, layout(t, m, tt.entries...), ReadOptions{Platform: nil})
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			have := map[digest.Digest][]string{}
			for _, im := range got {
				have[im.Manifest.Digest] = tagNames(im)
			}
			if !reflect.DeepEqual(have, tt.want) {
				t.Errorf("%v, want %v", have, tt.want)
			}
		})
	}
}

func TestReadRefusals(t *testing.T) {
	base := layerTar(t, "base", "base")
	config := configOf(t, amd64(), base)
	id := digest.FromBytes(config)
	list := func(config string, layers ...string) entry {
		return entry{name: manifestFile, body: mustJSON(t, []dockerImage{{Config: config, Layers: layers}})}
	}
	good := []entry{{name: "l.tar", body: base}, {name: "c.json", body: config}, list("c.json", "l.tar")}
	with := func(more ...entry) []byte { return makeTar(t, append(slices.Clone(good), more...)...) }
	flipped := bytes.Clone(base)
	flipped[600] ^= 1
	m := newMemory()
	one := makeImage(t, m, amd64(), "one")
	whole := layout(t, m, one)
	wrongSize := one
	wrongSize.Size++
	for _, tt := range []struct {
		name string
		in   []byte
		kind func(error) bool
		says string
	}{
		{"nothing", nil, errdefs.IsInvalidArgument, "it is empty"},
		{"no tar", bytes.Repeat([]byte("text "), 1000), errdefs.IsInvalidArgument, "it is no tar file"},
		{"a file system", makeTar(t, entry{name: "etc/passwd", body: []byte("root")}), errdefs.IsInvalidArgument, "it has neither \"manifest.json\" nor \"index.json\""},
		{"xz", []byte("\xfd7zXZ\x00........"), errdefs.IsInvalidArgument, "compressed by xz"},
		{"older than manifest.json", makeTar(t, entry{name: repositoriesFile, body: []byte("{}")}), errdefs.IsInvalidArgument, "Docker before 1.10"},
		{"..", with(entry{name: "a/../../x", body: []byte("x")}), errdefs.IsInvalidArgument, "leads out of it: \"a/../../x\""},
		{"absolute", with(entry{name: "/etc/passwd", body: []byte("x")}), errdefs.IsInvalidArgument, "absolute path: \"/etc/passwd\""},
		{"backslash", with(entry{name: "..\\x", body: []byte("x")}), errdefs.IsInvalidArgument, "odd name"},
		{"long name", with(entry{name: strings.Repeat("x", 2000), body: []byte("x")}), errdefs.IsInvalidArgument, "2000 bytes long"},
		{"symlink out", with(entry{name: "a/l", kind: tar.TypeSymlink, link: "../../etc/passwd"}), errdefs.IsInvalidArgument, "leads out of the archive, to \"../../etc/passwd\""},
		{"absolute symlink", with(entry{name: "l", kind: tar.TypeSymlink, link: "/etc/passwd"}), errdefs.IsInvalidArgument, "leads out of the archive"},
		{"hard link out", with(entry{name: "l", kind: tar.TypeLink, link: "../x"}), errdefs.IsInvalidArgument, "leads out of the archive"},
		{"links in a circle", makeTar(t, entry{name: "l.tar", kind: tar.TypeSymlink, link: "m.tar"}, entry{name: "m.tar", kind: tar.TypeSymlink, link: "l.tar"}, good[1], good[2]), errdefs.IsInvalidArgument, "no tar, neither plain"},
		{"device", with(entry{name: "null", kind: tar.TypeChar}), errdefs.IsInvalidArgument, "neither a file nor a directory nor a link"},
		{"twice", with(entry{name: "./c.json", body: []byte("{}")}), errdefs.IsInvalidArgument, "two entries named \"c.json\""},
		{"huge manifest.json", makeTar(t, entry{name: manifestFile, body: append([]byte("["), bytes.Repeat([]byte(" "), manifest.MaxSize)...)}), errdefs.IsInvalidArgument, "at most 4194304 are read"},
		{"manifest.json that is no JSON", makeTar(t, entry{name: manifestFile, body: []byte("[}")}), errdefs.IsInvalidArgument, "manifest.json can't be used"},
		{"index.json that is a manifest", makeTar(t, entry{name: "index.json", body: []byte(`{"config":{},"layers":[]}`)}), errdefs.IsInvalidArgument, "index.json can't be used"},
		{"no config", makeTar(t, good[0], good[2]), errdefs.IsInvalidArgument, "the config \"c.json\" is named in manifest.json but is not in it"},
		{"config outside", makeTar(t, good[0], list("../../etc/passwd", "l.tar")), errdefs.IsInvalidArgument, "is not in it"},
		{"no layer", makeTar(t, good[1], good[2]), errdefs.IsInvalidArgument, "layer 1 (\"l.tar\") is named in it but is not in it"},
		{"another layer", makeTar(t, entry{name: "l.tar", body: layerTar(t, "base", "evil")}, good[1], good[2]), errdefs.IsDataLoss, "where the image's config says " + digest.FromBytes(base).String()},
		{"a layer too few", makeTar(t, good[0], good[1], list("c.json")), errdefs.IsInvalidArgument, "has 0 layers in manifest.json and 1 in its config"},
		{"a layer that is no tar", makeTar(t, entry{name: "l.tar", body: []byte("hello")}, good[1], good[2]), errdefs.IsInvalidArgument, "is no tar, neither plain nor compressed"},
		{"a layer that is damaged inside", makeTar(t, entry{name: "l.tar", body: gzipped(t, bytes.Repeat([]byte("x"), 2000))}, good[1], good[2]), errdefs.IsInvalidArgument, "layer 1 (\"l.tar\"): no tar"},
		{"flipped bit in a layer", makeTar(t, entry{name: blobName(digest.FromBytes(base)), body: flipped}), errdefs.IsDataLoss, "it is damaged"},
		{"flipped bit in a config", makeTar(t, entry{name: blobName(id), body: append(bytes.Clone(config), '\n')}), errdefs.IsDataLoss, "it is damaged"},
		{"size that is wrong", layout(t, m, wrongSize), errdefs.IsDataLoss, "bytes where"},
		{"cut in a layer", whole[:3000], errdefs.IsDataLoss, "it was cut short"},
		{"cut between entries", whole[:1024], errdefs.IsInvalidArgument, "neither"},
		{"bad tag", makeTar(t, good[0], good[1], entry{name: manifestFile, body: []byte(`[{"Config":"c.json","RepoTags":["A B"],"Layers":["l.tar"]}]`)}), errdefs.IsInvalidArgument, "it names an image \"A B\""},
		{"sparse", sparseTar(), errdefs.IsInvalidArgument, "sparse file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := read(t, tt.in, ReadOptions{})
			if err == nil || !tt.kind(err) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "own words") {
				t.Errorf("%v\nwant %s", err, tt.says)
			}
		})
	}
	t.Run("other platform", func(t *testing.T) {
		if _, _, err := read(t, makeTar(t, good...), ReadOptions{Platform: ptr(s390x())}); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "does not provide the platform linux/s390x") {
			t.Error(err)
		}
	})
	t.Run("full disk", func(t *testing.T) {
		dst := newMemory()
		dst.full = errdefs.ErrResourceExhausted.WithMessage("the disk is full")
		if _, err := Read(t.Context(), bytes.NewReader(makeTar(t, good...)), ReadOptions{}, dst); !errdefs.IsResourceExhausted(err) {
			t.Error(err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errTest)
		if _, err := Read(ctx, bytes.NewReader(makeTar(t, good...)), ReadOptions{}, newMemory()); !errors.Is(err, errTest) {
			t.Error(err)
		}
	})
	t.Run("too many entries", func(t *testing.T) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i := range maxEntries + 1 {
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeDir}); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := read(t, b.Bytes(), ReadOptions{}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "more than 100000 entries") {
			t.Error(err)
		}
	})
	// Each part that an archive can be cut at is refused, and nothing panics.
	for n := 0; n < len(whole)-1024; n += 512 {
		if got, _, err := read(t, whole[:n], ReadOptions{}); err == nil {
			t.Fatalf("cut after %d bytes it gave %v", n, got)
		}
	}
}

// sparseTar is a tar of a kilobyte with a file of 300 GB, in the form of old GNU tars.
func sparseTar() []byte {
	var b [1024]byte
	copy(b[0:], "layer.tar")
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	copy(b[124:], "00000000000\x00")
	copy(b[136:], "00000000000\x00")
	copy(b[148:], "        ")
	b[156] = 'S'
	copy(b[257:], "ustar  \x00")
	copy(b[386:], "00000000000\x0000000000000\x00")
	copy(b[483:], "4000000000000")
	var sum int
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b[:]
}

func FuzzRead(f *testing.F) {
	m := newMemory()
	one := makeImage(f, m, amd64(), "one")
	f.Add(layout(f, m, one))
	base := layerTar(f, "base", "base")
	config := configOf(f, amd64(), base)
	f.Add(makeTar(f, entry{name: "l.tar", body: base}, entry{name: "k.tar", kind: tar.TypeSymlink, link: "l.tar"}, entry{name: "c.json", body: config},
		entry{name: manifestFile, body: mustJSON(f, []dockerImage{{Config: "c.json", RepoTags: []string{"x:y"}, Layers: []string{"k.tar"}}})}))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		dst := newMemory()
		images, err := Read(t.Context(), bytes.NewReader(data), ReadOptions{TempDir: dir}, dst)
		if err != nil {
			return
		}
		for _, im := range images {
			parsed, err := manifest.ParseConfig(dst.blobs[im.Config.Digest])
			if err != nil || digest.FromBytes(dst.blobs[im.Config.Digest]) != im.Config.Digest || digest.FromBytes(dst.blobs[im.Manifest.Digest]) != im.Manifest.Digest {
				t.Fatalf("%+v %v", im, err)
			}
			for i, l := range im.Layers {
				if l.DiffID != parsed.DiffIDs[i] || dst.layers[l.Blob.Digest].DiffID != l.DiffID {
					t.Errorf("layer %d: %+v", i, l)
				}
			}
		}
	})
}
