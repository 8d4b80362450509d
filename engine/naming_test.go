package engine

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/image"
)

// An image that somebody is about to name is not taken away from under the name, by a prune or by its other name's
// removal.
func TestRemovalMeetsNaming(t *testing.T) {
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{images: store}
	id := digest.FromString("image")
	if err := store.Put(image.Image{ID: id}); err != nil {
		t.Fatal(err)
	}
	old, err := reference.ParseNormalizedNamed("old:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Tag(old, id); err != nil {
		t.Fatal(err)
	}
	l := e.leases.lease()
	l.name(id)
	done, gone, err := e.dropRecord(id, []reference.Named{old})
	if err != nil || gone || len(done) != 1 {
		t.Errorf("its name: %v, gone %v, %v", done, gone, err)
	}
	if _, gone, err := e.dropRecord(id, nil); !errdefs.IsConflict(err) || gone {
		t.Errorf("a prune: gone %v, %v", gone, err)
	}
	if _, err := store.Tag(old, id); err != nil {
		t.Fatal(err)
	}
	l.end()
	if done, gone, err := e.dropRecord(id, nil); err == nil || gone || len(done) != 0 {
		t.Errorf("a prune that had seen it without a name: %v, gone %v, %v", done, gone, err)
	}
	if _, gone, err := e.dropRecord(id, []reference.Named{old}); err != nil || !gone {
		t.Errorf("nobody needs it: gone %v, %v", gone, err)
	}
	if _, err := store.Get(id); !errdefs.IsNotFound(err) {
		t.Errorf("its record: %v", err)
	}
}
