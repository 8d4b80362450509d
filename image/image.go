package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image/manifest"
)

// Image is the record of one image. Everything that its config says is read from the config.
type Image struct {
	// ID is the digest of the config.
	ID digest.Digest
	// Form is the one in which the image was pulled last, or pushed first; empty for an image that was built or
	// imported and never pushed.
	Form
	// Others are forms in which it came, too, and for which names stand.
	Others []Form `json:",omitempty"`
	// DiffIDs name the layers, lowest first.
	DiffIDs []digest.Digest
	// Size is the sum of the layers' tars, in bytes.
	Size int64
	// Parent is the image that a commit was made on.
	Parent digest.Digest `json:",omitempty"`
	// Added is when this engine got it.
	Added time.Time
}

// Form is an image as a registry or an archive has it. The same image can come in several: with layers that are
// compressed otherwise, or by an index and without.
type Form struct {
	Manifest *ocispec.Descriptor `json:",omitempty"`
	// Index is what the image was pulled by, where that was an index: its digest is the RepoDigest.
	Index *ocispec.Descriptor `json:",omitempty"`
	// Layers are the layers as the manifest describes them (compressed), in the order of DiffIDs. It
	// is empty where there is no manifest.
	Layers []ocispec.Descriptor `json:",omitempty"`
}

// Root is the digest that a registry knows the form by; "" where it has none.
func (f Form) Root() digest.Digest {
	switch {
	case f.Index != nil:
		return f.Index.Digest
	case f.Manifest != nil:
		return f.Manifest.Digest
	}
	return ""
}

// Is tells whether a name that stands for root stands for the form: root is its own, or its manifest's, which a push
// without the index made known.
func (f Form) Is(root digest.Digest) bool {
	return root != "" && (f.Root() == root || f.Manifest != nil && f.Manifest.Digest == root)
}

// Has tells whether the image has a form for which root stands.
func (i Image) Has(root digest.Digest) bool {
	return slices.ContainsFunc(i.Forms(), func(f Form) bool { return f.Is(root) })
}

// In is the image with the form first for which root stands; as it is, where it has none such.
func (i Image) In(root digest.Digest) Image {
	if i.Root() == root {
		return i
	}
	at := slices.IndexFunc(i.Others, func(f Form) bool { return f.Root() == root })
	if at < 0 && !i.Is(root) {
		at = slices.IndexFunc(i.Others, func(f Form) bool { return f.Is(root) })
	}
	if root == "" || at < 0 {
		return i
	}
	found := i.Others[at]
	i.Others = append([]Form{i.Form}, slices.Delete(slices.Clone(i.Others), at, at+1)...)
	i.Form = found
	return i
}

// With is the image with f first, and its other forms behind.
func (i Image) With(f Form) Image {
	if i.Root() != "" && i.Root() != f.Root() {
		if i = i.In(f.Root()); i.Root() != f.Root() {
			i.Others = append([]Form{i.Form}, i.Others...)
		}
	}
	i.Form = f
	return i
}

// Forms are all.
func (i Image) Forms() []Form { return append([]Form{i.Form}, i.Others...) }

// Config is an image config as Docker and OCI define it.
type Config = dockerspec.DockerOCIImage

// ParseConfig reads a config, and refuses one whose root file system is not a list of sha256 diffIDs
// (image-spec, "config.md").
func ParseConfig(b []byte) (*Config, error) {
	c := &Config{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("the image's config is not JSON of the expected form: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := manifest.CheckRootFS(c.RootFS); err != nil {
		return nil, fmt.Errorf("the image can't be used: %w", err)
	}
	return c, nil
}

// ParseName reads what a user typed where an image is wanted: a name with or without tag or digest.
// A name without either means the tag "latest"; beside a digest the tag says nothing.
func ParseName(s string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return nil, fmt.Errorf("invalid reference format: %q: %w: %w", s, err, errdefs.ErrInvalidArgument)
	}
	if digested, ok := named.(reference.Canonical); ok {
		return reference.WithDigest(reference.TrimNamed(named), digested.Digest())
	}
	return reference.TagNameOnly(named), nil
}
