package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image/manifest"
)

// containerdName is the annotation in index.json by which Docker and containerd give the whole name of
// an image; OCI's own ("org.opencontainers.image.ref.name") is often the tag alone.
const containerdName = "io.containerd.image.name"

// images puts together what the archive's documents say, and the documents into the Target.
func (c *contents) images(ctx context.Context, platform *ocispec.Platform, dst Target) ([]Image, error) {
	a := assembly{contents: c, ctx: ctx, platform: platform, to: dst}
	if err := a.fromIndex(); err != nil {
		return nil, err
	}
	if err := a.fromManifest(); err != nil {
		return nil, err
	}
	if len(a.all) > 0 {
		return a.all, nil
	}
	return nil, a.nothing()
}

// assembly makes images out of contents.
type assembly struct {
	*contents
	ctx      context.Context
	platform *ocispec.Platform
	to       Target
	all      []Image
	other    error // why something in index.json is no image
}

func (a *assembly) nothing() error {
	if a.other != nil {
		return a.other
	}
	switch {
	case a.names[repositoriesFile] && !a.names[manifestFile]:
		return invalid("it has \"repositories\" but no \"manifest.json\": Docker before 1.10 made such ones, and they are not read")
	case a.names[manifestFile], a.names[ocispec.ImageIndexFile]:
		return invalid("there is no image in it")
	}
	return invalid("it is no archive of images: it has neither \"manifest.json\" nor \"index.json\". " +
		"A file system, as `export` makes one, is taken by `import`")
}

// add takes an image, or adds its tags to those of the same image.
func (a *assembly) add(im Image) {
	for i := range a.all {
		if a.all[i].Config.Digest == im.Config.Digest && (im.Ref.Digest == "" || a.all[i].Ref.Digest == im.Ref.Digest) {
			for _, t := range im.Tags {
				if !slices.ContainsFunc(a.all[i].Tags, func(o reference.NamedTagged) bool { return o.String() == t.String() }) {
					a.all[i].Tags = append(a.all[i].Tags, t)
				}
			}
			return
		}
	}
	a.all = append(a.all, im)
}

// fromIndex reads index.json of an OCI image layout.
func (a *assembly) fromIndex() error {
	raw, err := a.doc(ocispec.ImageIndexFile)
	if raw == nil || err != nil {
		return err
	}
	top, err := manifest.Parse(ocispec.MediaTypeImageIndex, raw)
	if err != nil {
		return invalid("index.json can't be used: %v", err)
	}
	for _, group := range grouped(top.Index.Manifests) {
		desc, err := a.chooseOf(group)
		if err != nil {
			return err
		}
		im, err := a.ociImage(desc)
		if errdefs.IsInvalidArgument(err) && a.isOther(desc) {
			a.other = err // a chart, a signature
			continue
		}
		if err != nil {
			return err
		}
		if im.Tags, err = tagsOf(desc); err != nil {
			return err
		}
		a.add(im)
	}
	return nil
}

// grouped puts the entries of index.json together that are one image for several platforms: those with
// the same name that all say their platform.
func grouped(entries []ocispec.Descriptor) [][]ocispec.Descriptor {
	var groups [][]ocispec.Descriptor
	at := map[string]int{}
	for _, d := range entries {
		if manifest.IsAttestation(d) {
			continue
		}
		name := nameOf(d)
		if i, ok := at[name]; ok && d.Platform != nil {
			groups[i] = append(groups[i], d)
			continue
		}
		if d.Platform != nil {
			at[name] = len(groups)
		}
		groups = append(groups, []ocispec.Descriptor{d})
	}
	return groups
}

func (a *assembly) chooseOf(group []ocispec.Descriptor) (ocispec.Descriptor, error) {
	if len(group) == 1 {
		return group[0], nil
	}
	d, err := manifest.Choose(&ocispec.Index{Manifests: group}, a.platform)
	if err != nil {
		return d, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("%s: %v", nameOf(group[0]), err))
	}
	return d, nil
}

func nameOf(d ocispec.Descriptor) string {
	if n := d.Annotations[containerdName]; n != "" {
		return n
	}
	return d.Annotations[ocispec.AnnotationRefName]
}

// tagsOf reads the name of an entry of index.json. A bare word is a tag of nothing in particular.
func tagsOf(d ocispec.Descriptor) ([]reference.NamedTagged, error) {
	name := nameOf(d)
	if d.Annotations[containerdName] == "" && !strings.ContainsAny(name, ":/") {
		return nil, nil
	}
	t, err := parseTag(name)
	if err != nil || t == nil {
		return nil, err
	}
	return []reference.NamedTagged{t}, nil
}

// parseTag reads a name with a tag; one with a digest is no tag (nil).
func parseTag(name string) (reference.NamedTagged, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, invalid("it names an image %.200q: %v", name, err)
	}
	if _, ok := ref.(reference.Digested); ok {
		return nil, nil
	}
	t, _ := reference.TagNameOnly(ref).(reference.NamedTagged)
	return t, nil
}

// ociImage puts together the image of an entry of index.json.
func (a *assembly) ociImage(root ocispec.Descriptor) (Image, error) {
	const maxIndexes = 3
	im := Image{}
	at := root
	for range maxIndexes + 1 {
		body, doc, err := a.document(at)
		if err != nil {
			return im, err
		}
		desc := ocispec.Descriptor{MediaType: doc.MediaType, Digest: at.Digest, Size: int64(len(body))}
		if im.Ref.Digest == "" {
			im.Ref = desc
		}
		if doc.Manifest != nil {
			im.Manifest = desc
			return a.finish(im, body, doc.Manifest)
		}
		if err := a.put(desc, body); err != nil {
			return im, err
		}
		if at, err = a.choose(desc, doc.Index); err != nil {
			return im, err
		}
	}
	return im, invalid("%s: its indexes lead to indexes without end", root.Digest)
}

// choose takes what fits best of the entries of an index that are in the archive: often only some are.
func (a *assembly) choose(desc ocispec.Descriptor, index *ocispec.Index) (ocispec.Descriptor, error) {
	here := ocispec.Index{}
	for _, d := range index.Manifests {
		if a.names[a.resolve(blobName(d.Digest))] {
			here.Manifests = append(here.Manifests, d)
		}
	}
	d, err := manifest.Choose(&here, a.platform)
	if err != nil {
		return d, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("%s: %v", desc.Digest, err))
	}
	return d, nil
}

// isOther says whether a descriptor is of something that is whole, but no image.
func (a *assembly) isOther(desc ocispec.Descriptor) bool {
	_, doc, err := a.document(desc)
	return err == nil && doc.Manifest != nil && manifest.CheckImage(doc.Manifest) != nil
}

// document returns an index or manifest by its digest, which was compared when it was read.
func (a *assembly) document(desc ocispec.Descriptor) ([]byte, manifest.Document, error) {
	body, err := a.blob(desc)
	if err != nil {
		return nil, manifest.Document{}, err
	}
	doc, err := manifest.Parse(desc.MediaType, body)
	if err != nil {
		return nil, doc, invalid("%s can't be used: %v", desc.Digest, err)
	}
	return body, doc, nil
}

// blob returns a small blob by its descriptor.
func (a *assembly) blob(desc ocispec.Descriptor) ([]byte, error) {
	body, err := a.doc(blobName(desc.Digest))
	if err != nil {
		return nil, err
	}
	if body == nil {
		return nil, invalid("%s (%s) is named in it but is not in it", desc.Digest, desc.MediaType)
	}
	if err := manifest.Verify(desc, body); err != nil {
		return nil, err
	}
	return body, nil
}

func (a *assembly) put(desc ocispec.Descriptor, body []byte) error {
	if err := a.to.PutBlob(a.ctx, desc, body); err != nil {
		return fmt.Errorf("keep %s: %w", desc.Digest, err)
	}
	return nil
}

// finish adds config and layers of a manifest.
func (a *assembly) finish(im Image, body []byte, m *ocispec.Manifest) (Image, error) {
	if err := manifest.CheckImage(m); err != nil {
		return im, invalid("%s can't be used: %v", im.Manifest.Digest, err)
	}
	config, err := a.blob(m.Config)
	if err != nil {
		return im, err
	}
	parsed, err := manifest.ParseConfig(config)
	if err == nil {
		err = manifest.CheckLayers(m, parsed)
	}
	if err == nil {
		err = manifest.CheckPlatform(parsed.Platform, a.platform)
	}
	if err != nil {
		return im, fmt.Errorf("%s: %w", im.Manifest.Digest, err)
	}
	im.Config, im.Platform = m.Config, parsed.Platform
	for i, d := range m.Layers {
		l, err := a.layerAt(blobName(d.Digest), i, parsed.DiffIDs[i])
		if err != nil {
			return im, err
		}
		l.Blob = d
		im.Layers = append(im.Layers, l)
	}
	if err := a.put(im.Config, config); err != nil {
		return im, err
	}
	return im, a.put(im.Manifest, body)
}

// layerAt returns the layer that an entry became, which is number i of an image and has diffID.
func (a *assembly) layerAt(name string, i int, diffID digest.Digest) (Layer, error) {
	f, ok := a.layers[a.resolve(name)]
	switch {
	case !ok && a.names[a.resolve(name)]:
		return Layer{}, invalid("layer %d (%q) is no tar, neither plain nor compressed by gzip or zstd", i+1, name)
	case !ok:
		return Layer{}, invalid("layer %d (%q) is named in it but is not in it", i+1, name)
	case f.err != nil:
		return Layer{}, fmt.Errorf("layer %d (%q): %w", i+1, name, f.err)
	case f.layer.DiffID != diffID:
		return Layer{}, damaged("layer %d (%q) is %s where the image's config says %s", i+1, name, f.layer.DiffID, diffID)
	}
	return f.layer, nil
}

// dockerImage is an entry of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// fromManifest reads manifest.json, as `docker save` writes it.
func (a *assembly) fromManifest() error {
	raw, err := a.doc(manifestFile)
	if raw == nil || err != nil {
		return err
	}
	if slices.ContainsFunc(a.all, func(im Image) bool { return len(im.Tags) > 0 }) {
		return nil // the same, said twice; where it isn't the same, index.json counts, as it does for Docker
	}
	known := len(a.all) > 0
	var entries []dockerImage
	if err := json.Unmarshal(raw, &entries); err != nil {
		return invalid("manifest.json can't be used: %v", err)
	}
	for _, e := range entries {
		config, im, err := a.named(e)
		if err != nil {
			return err
		}
		if !known {
			if im, err = a.dockerImage(e, config, im); err != nil {
				return err
			}
		}
		a.tag(im, known)
	}
	return nil
}

// tag adds the image of an entry of manifest.json, or only its tags to that which index.json knows.
func (a *assembly) tag(im Image, known bool) {
	if !known || slices.ContainsFunc(a.all, func(o Image) bool { return o.Config.Digest == im.Config.Digest }) {
		a.add(im)
	}
}

// named reads config and tags of an entry of manifest.json.
func (a *assembly) named(e dockerImage) ([]byte, Image, error) {
	config, err := a.doc(e.Config)
	if err != nil {
		return nil, Image{}, err
	}
	if config == nil {
		return nil, Image{}, invalid("the config %.200q is named in manifest.json but is not in it", e.Config)
	}
	im := Image{Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}}
	for _, name := range e.RepoTags {
		t, err := parseTag(name)
		if err != nil {
			return nil, im, err
		}
		if t != nil {
			im.Tags = append(im.Tags, t)
		}
	}
	return config, im, nil
}

// dockerImage puts together the image of an entry of manifest.json, and gives it a manifest.
func (a *assembly) dockerImage(e dockerImage, config []byte, im Image) (Image, error) {
	parsed, err := manifest.ParseConfig(config)
	if err == nil {
		err = manifest.CheckPlatform(parsed.Platform, a.platform)
	}
	if err != nil {
		return im, fmt.Errorf("%.200q: %w", e.Config, err)
	}
	if len(parsed.DiffIDs) != len(e.Layers) {
		return im, invalid("%.200q has %d layers in manifest.json and %d in its config", e.Config, len(e.Layers), len(parsed.DiffIDs))
	}
	im.Platform = parsed.Platform
	for i, name := range e.Layers {
		l, err := a.layerAt(name, i, parsed.DiffIDs[i])
		if err != nil {
			return im, err
		}
		im.Layers = append(im.Layers, l)
	}
	if err := a.put(im.Config, config); err != nil {
		return im, err
	}
	return im, a.giveManifest(&im)
}

// giveManifest makes a manifest for an image that came without one.
func (a *assembly) giveManifest(im *Image) error {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: im.Config, Layers: []ocispec.Descriptor{}}
	for _, l := range im.Layers {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: l.Blob.MediaType, Digest: l.Blob.Digest, Size: l.Blob.Size})
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	im.Manifest = ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	im.Ref = im.Manifest
	return a.put(im.Manifest, body)
}
