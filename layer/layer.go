package layer

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/opencontainers/go-digest"
)

// Layer is what is known of one layer that is here.
type Layer struct {
	// DiffID is the sha256 of the uncompressed tar, byte for byte as it came.
	DiffID digest.Digest
	// TarSize is the length of that tar in bytes.
	TarSize int64
	// Size is the length of the layer file in bytes: the tar, the metadata, padding.
	Size int64
	// Inodes is the number of files, directories and the rest in it.
	Inodes int
	// Metadata is the sha256 of superblock and metadata of the layer file.
	Metadata digest.Digest
	// Implied are the directories that exist in the layer only because something is in them: the tar
	// has no entry for them. Clean paths without a leading slash, sorted; the root is not among them.
	Implied []string `json:",omitempty"`
}

// ChainID names a stack of layers, bottom first (OCI image-spec, "Layer ChainID"). That of no layers
// is the empty string.
func ChainID(diffIDs []digest.Digest) digest.Digest {
	var chain digest.Digest
	for _, id := range diffIDs {
		chain = chainOn(chain, id)
	}
	return chain
}

// chainOn is the ChainID of the layer diffID on the stack below.
func chainOn(below, diffID digest.Digest) digest.Digest {
	if below == "" {
		return diffID
	}
	sum := sha256.Sum256([]byte(below + " " + diffID))
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum[:]))
}
