package build

import (
	"github.com/opencontainers/go-digest"
)

// Result is an image whose layers are all in the store.
type Result struct {
	// Config is the image's configuration, complete: its sha256 is the image's ID. It says the same,
	// byte for byte, when everything came from the cache.
	Config []byte
	// DiffIDs are the layers, bottom first; Config names the same.
	DiffIDs []digest.Digest
	// Warnings are those of the front end, one sentence each.
	Warnings []string
	// Cached counts the steps that came from the cache, Steps all that were asked for.
	Cached, Steps int
}
