package cache

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Key is a hash of everything that a step's result depends on.
type Key [32]byte

// ID names a record. Keys of steps that stand on a result hold the ID of its record.
type ID [16]byte

// Layer is one layer of a result.
type Layer struct {
	DiffID digest.Digest // sha256
	// Created is when its step ran, and Description what it was; for the history of an image. Both are
	// zero for layers of base images, whose own history says it.
	Created     time.Time
	Description string
}

// Record is what is remembered of a step that ran.
type Record struct {
	ID          ID
	Created     time.Time
	Description string
	Keys        []Key
	// Outputs are the layers, bottom first, of each output of which they are known.
	Outputs map[int][]Layer
	// Digests are digests of selected contents of an output, by a hash of the selection.
	Digests map[Key]Key
	// Attributes are what a source wants to remember (an ETag), by name.
	Attributes map[string]string
	// Used is when it was last looked up by a build, to the hour.
	Used time.Time
}

func (r *Record) clone() *Record {
	c := *r
	c.Keys = append([]Key(nil), r.Keys...)
	c.Outputs = clone(r.Outputs)
	c.Digests = clone(r.Digests)
	c.Attributes = clone(r.Attributes)
	return &c
}

func clone[K comparable, V any](m map[K]V) map[K]V {
	out := make(map[K]V, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
