package image

import (
	"encoding/json"
	"fmt"
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
	// Manifest is the manifest that the image came with or was last pushed under; empty for an image
	// that was built or imported and never pushed.
	Manifest *ocispec.Descriptor `json:",omitempty"`
	// Index is what the image was pulled by, where that was an index: its digest is the RepoDigest.
	Index *ocispec.Descriptor `json:",omitempty"`
	// Layers are the layers as the manifest describes them (compressed), in the order of DiffIDs. It
	// is empty where there is no manifest.
	Layers []ocispec.Descriptor `json:",omitempty"`
	// DiffIDs name the layers, lowest first.
	DiffIDs []digest.Digest
	// Size is the sum of the layers' tars, in bytes.
	Size int64
	// Parent is the image that a commit was made on.
	Parent digest.Digest `json:",omitempty"`
	// Added is when this engine got it.
	Added time.Time
}

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
// A name without either means the tag "latest".
func ParseName(s string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return nil, fmt.Errorf("invalid reference format: %q: %w: %w", s, err, errdefs.ErrInvalidArgument)
	}
	return reference.TagNameOnly(named), nil
}
