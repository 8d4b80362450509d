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
	put(t, store, image.Image{ID: id})
	old := named(t, "old:1")
	if _, err := store.Tag(old, id); err != nil {
		t.Fatal(err)
	}
	l := e.leases.lease()
	l.name(id)
	done, gone, err := e.dropRecord(id, []reference.Named{old}, true, false)
	if err != nil || gone || len(done) != 1 {
		t.Errorf("its name: %v, gone %v, %v", done, gone, err)
	}
	if _, gone, err := e.dropRecord(id, nil, false, false); !errdefs.IsConflict(err) || gone {
		t.Errorf("a prune: gone %v, %v", gone, err)
	}
	if _, err := store.Tag(old, id); err != nil {
		t.Fatal(err)
	}
	l.end()
	if done, gone, err := e.dropRecord(id, nil, false, false); err == nil || gone || len(done) != 0 {
		t.Errorf("a prune that had seen it without a name: %v, gone %v, %v", done, gone, err)
	}
	if _, gone, err := e.dropRecord(id, []reference.Named{old}, true, false); err != nil || !gone {
		t.Errorf("nobody needs it: gone %v, %v", gone, err)
	}
	if _, err := store.Get(id); !errdefs.IsNotFound(err) {
		t.Errorf("its record: %v", err)
	}
}

func named(t *testing.T, s string) reference.Named {
	t.Helper()
	ref, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func put(t *testing.T, store *image.Store, img image.Image) {
	t.Helper()
	if err := store.Update(img.ID, func(image.Image, bool) (image.Image, error) { return img, nil }); err != nil {
		t.Fatal(err)
	}
}

// A name that was given to another image meanwhile is left alone, and a removal that is refused takes no name away.
func TestRemovalMeetsMovedName(t *testing.T) {
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{images: store}
	one, other := digest.FromString("one"), digest.FromString("other")
	stays, moves := named(t, "stays:1"), named(t, "moves:1")
	for _, id := range []digest.Digest{one, other} {
		put(t, store, image.Image{ID: id})
	}
	for ref, id := range map[reference.Named]digest.Digest{stays: one, moves: other} {
		if _, err := store.Tag(ref, id); err != nil {
			t.Fatal(err)
		}
	}
	l := e.leases.lease()
	l.use(one)
	if done, gone, err := e.dropRecord(one, []reference.Named{stays, moves}, true, false); !errdefs.IsConflict(err) || gone || len(done) > 0 {
		t.Errorf("in use: %v, gone %v, %v", done, gone, err)
	}
	l.end()
	if id, err := store.Lookup(stays); id != one || err != nil {
		t.Errorf("its name: %s, %v", id, err)
	}
	done, gone, err := e.dropRecord(one, []reference.Named{stays, moves}, true, false)
	if err != nil || !gone || len(done) != 1 || done[0].Untagged != "stays:1" {
		t.Errorf("%v, gone %v, %v", done, gone, err)
	}
	if id, err := store.Lookup(moves); id != other || err != nil {
		t.Errorf("the other's name: %s, %v", id, err)
	}
}
