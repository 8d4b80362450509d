package manifest

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Config is what of an image's configuration says how its layers belong together.
type Config struct {
	// Platform, normalized. An image without an architecture is the host's.
	Platform ocispec.Platform
	// DiffIDs of the layers, bottom first.
	DiffIDs []digest.Digest
}

// ParseConfig reads an image's configuration. Errors are errdefs.ErrInvalidArgument; the sentence does
// not name the image.
func ParseConfig(data []byte) (Config, error) {
	if len(data) > MaxSize {
		return Config{}, tooLarge("config", int64(len(data)))
	}
	var c struct {
		ocispec.Platform
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, invalid("its config is not what an image has: " + err.Error())
	}
	if err := CheckRootFS(c.RootFS); err != nil {
		return Config{}, err
	}
	return Config{Platform: platformOf(c.Platform), DiffIDs: c.RootFS.DiffIDs}, nil
}

// CheckRootFS refuses a config's root file system that is not a list of sha256 diffIDs (image-spec, "config.md").
// The error is ParseConfig's.
func CheckRootFS(r ocispec.RootFS) error {
	if r.Type != "" && r.Type != "layers" {
		return invalid(fmt.Sprintf("its config says that the root file system is of type %q, only \"layers\" is known", r.Type))
	}
	for i, d := range r.DiffIDs {
		err := d.Validate()
		if err == nil && d.Algorithm() != digest.SHA256 {
			err = errors.New("it is no sha256 digest")
		}
		if err != nil {
			return invalid(fmt.Sprintf("its config gives layer %d the diffID %.100q: %v", i+1, string(d), err))
		}
	}
	return nil
}

func platformOf(p ocispec.Platform) ocispec.Platform {
	host := platforms.DefaultSpec()
	if p.OS == "" {
		p.OS = host.OS
	}
	if p.Architecture == "" {
		p.Architecture = host.Architecture
	}
	return platforms.Normalize(p)
}

// CheckLayers compares a manifest with its config: there is one diffID for each layer.
func CheckLayers(m *ocispec.Manifest, c Config) error {
	if len(m.Layers) != len(c.DiffIDs) {
		return invalid(fmt.Sprintf("its manifest has %d layers and its config %d", len(m.Layers), len(c.DiffIDs)))
	}
	return nil
}
