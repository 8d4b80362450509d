package build

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/build/cache"
)

// TestSpares: without All goes what no image stands on, however new it is; what takes no room stays for a while.
func TestSpares(t *testing.T) {
	top, other := digest.FromString("top"), digest.FromString("other")
	record := func(used time.Duration, layers ...digest.Digest) *cache.Record {
		r := &cache.Record{Used: time.Now().Add(-used), Outputs: map[int][]cache.Layer{}}
		for _, d := range layers {
			r.Outputs[0] = append(r.Outputs[0], cache.Layer{DiffID: d})
		}
		return r
	}
	inImage := func(d digest.Digest) bool { return d == top }
	for name, c := range map[string]struct {
		opts   PruneOptions
		record *cache.Record
		want   bool
	}{
		"in an image":               {PruneOptions{InImage: inImage}, record(0, other, top), true},
		"in an image, all":          {PruneOptions{InImage: inImage, All: true}, record(0, other, top), false},
		"on what is in one, not in": {PruneOptions{InImage: inImage}, record(0, top, other), false},
		"no images":                 {PruneOptions{}, record(0, top), false},
		"without layers":            {PruneOptions{InImage: inImage}, record(time.Hour), true},
		"without layers, old":       {PruneOptions{InImage: inImage}, record(8 * 24 * time.Hour), false},
		"without layers, new, all":  {PruneOptions{InImage: inImage, All: true}, record(0), false},
	} {
		if got := c.opts.spares(c.record); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
