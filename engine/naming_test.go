package engine

import (
	"slices"
	"testing"
	"time"

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
	if _, err := store.Tag(old, id, ""); err != nil {
		t.Fatal(err)
	}
	l := e.leases.lease()
	l.name(id)
	done, was, _, err := e.dropNames(id, every)
	if err != nil || was != nil || len(done) != 1 {
		t.Errorf("its name: %v, gone %v, %v", done, was, err)
	}
	if _, was, _, err := e.dropNames(id, every); !errdefs.IsConflict(err) || was != nil {
		t.Errorf("a prune: gone %v, %v", was, err)
	}
	if _, err := store.Tag(old, id, ""); err != nil {
		t.Fatal(err)
	}
	l.end()
	none := func([]reference.Named) ([]reference.Named, error) { return nil, nil }
	if done, was, _, err := e.dropNames(id, none); err != nil || was != nil || len(done) != 0 {
		t.Errorf("what has a name that is not to go: %v, gone %v, %v", done, was, err)
	}
	if _, was, _, err := e.dropNames(id, every); err != nil || was == nil || was.ID != id {
		t.Errorf("nobody needs it: gone %v, %v", was, err)
	}
	if _, err := store.Get(id); !errdefs.IsNotFound(err) {
		t.Errorf("its record: %v", err)
	}
}

// every picks all names.
func every(all []reference.Named) ([]reference.Named, error) { return all, nil }

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
		if _, err := store.Tag(ref, id, ""); err != nil {
			t.Fatal(err)
		}
	}
	pick := func([]reference.Named) ([]reference.Named, error) {
		return []reference.Named{stays, moves}, e.unused(one, true, false)
	}
	l := e.leases.lease()
	l.use(one)
	if done, was, _, err := e.dropNames(one, pick); !errdefs.IsConflict(err) || was != nil || len(done) > 0 {
		t.Errorf("in use: %v, gone %v, %v", done, was, err)
	}
	l.end()
	if id, err := store.Lookup(stays); id != one || err != nil {
		t.Errorf("its name: %s, %v", id, err)
	}
	done, was, _, err := e.dropNames(one, pick)
	if err != nil || was == nil || len(done) != 1 || done[0].Untagged != "stays:1" {
		t.Errorf("%v, gone %v, %v", done, was, err)
	}
	if id, err := store.Lookup(moves); id != other || err != nil {
		t.Errorf("the other's name: %s, %v", id, err)
	}
}

// A name that a user gave, and that is another image's when it is to go, is not taken for the ID of the one before.
func TestNameMovesDuringRemoval(t *testing.T) {
	e := &Engine{}
	id := digest.FromString("image")
	for user, want := range map[string]func(error) bool{
		"app": errdefs.IsNotFound, id.String(): isNil, id.Encoded()[:12]: isNil, "sha256:" + id.Encoded()[:12]: isNil, "other": isNil, "other:latest": isNil,
	} {
		names, err := e.meant(user, id, []reference.Named{named(t, "other:latest")}, false)
		if !want(err) || err == nil && len(names) != 1 {
			t.Errorf("%s: %v, %v", user, names, err)
		}
	}
}

// What goes with a name, and what with an ID, is what Docker takes.
func TestMeant(t *testing.T) {
	e := &Engine{}
	id := digest.FromString("image")
	at, other := "@"+id.String(), "@"+digest.FromString("other").String()
	for _, c := range []struct {
		user  string
		force bool
		all   []string
		want  []string // nil: a conflict
	}{
		{"a:1", false, []string{"a:1"}, []string{"a:1"}},
		{"a:1", false, []string{"a:1", "a:2"}, []string{"a:1"}},
		{"a:1", false, []string{"a:1", "a:2", "a" + at}, []string{"a:1"}},
		{"a:1", false, []string{"a:1", "a" + at}, []string{"a:1", "a" + at}},
		{"a:1", false, []string{"a:1", "a" + at, "b:1", "b" + at}, []string{"a:1", "a" + at}},
		{"a" + at, false, []string{"a:1", "a" + at}, []string{"a" + at}},
		{"a" + at, false, []string{"a" + at, "a" + other}, []string{"a" + at}},
		{id.String(), false, []string{"a:1", "a" + at}, []string{"a:1", "a" + at}},
		{id.String(), false, []string{"a:1", "a:2"}, nil},
		{id.String(), false, []string{"a:1", "b:1"}, nil},
		{id.String(), false, []string{"a:1", "b" + at}, nil},
		{id.String(), true, []string{"a:1", "b:1"}, []string{"a:1", "b:1"}},
		{id.String(), false, nil, []string{}},
	} {
		var all []reference.Named
		for _, n := range c.all {
			all = append(all, named(t, n))
		}
		got := []string{}
		names, err := e.meant(c.user, id, all, c.force)
		for _, n := range names {
			got = append(got, reference.FamiliarString(n))
		}
		if c.want == nil && !errdefs.IsConflict(err) || c.want != nil && (err != nil || !slices.Equal(got, c.want)) {
			t.Errorf("%s of %v: %v, %v, want %v", c.user, c.all, got, err, c.want)
		}
	}
}

func isNil(err error) bool { return err == nil }

// An image that was just made, or brought, stays over a prune until it could have been named.
func TestMadeMeetsPrune(t *testing.T) {
	for name, made := range map[string]func(e *Engine, l *lease, img image.Image) error{
		"tagged": func(e *Engine, l *lease, img image.Image) error {
			l.name(img.ID)
			_, err := e.images.Tag(named(t, "a:1"), img.ID, "")
			return err
		},
		"kept": func(e *Engine, l *lease, img image.Image) error {
			raw, err := e.blob(img.ID)
			if err == nil {
				_, err = e.keep(t.Context(), l, raw, "")
			}
			return err
		},
		"recorded": func(e *Engine, l *lease, img image.Image) error {
			_, err := e.record(l, img)
			return err
		},
	} {
		e := stores(t)
		img := addImage(t, e)
		l := e.leases.lease()
		if err := made(e, l, img); err != nil {
			t.Fatal(name, err)
		}
		for _, want := range []int{0, 1} {
			p, err := e.PruneImages(t.Context(), func(Image) bool { return false })
			if deleted := len(p.Images) > 0; err != nil || deleted != (want == 1) {
				t.Errorf("%s: pruned %v, %v, want %d", name, p.Images, err, want)
			}
			e.endLease(l)
		}
		nothingIsLeft(t, e)
	}
}

// A name is not given to an image that goes in this moment.
func TestTagMeetsRemoval(t *testing.T) {
	e := stores(t)
	img := addImage(t, e)
	tagged := make(chan error)
	e.leases.mu.Lock() // as a removal has it
	go func() { tagged <- e.Tag(img.ID.String(), "new") }()
	time.Sleep(20 * time.Millisecond) // so that Tag would be done if it did not wait
	_, err := e.images.Remove(img.ID)
	e.leases.mu.Unlock()
	if now := <-tagged; err != nil || !errdefs.IsNotFound(now) {
		t.Errorf("removed: %v, tagged: %v", err, now)
	}
	if id, err := e.images.Lookup(named(t, "new:latest")); !errdefs.IsNotFound(err) {
		t.Errorf("the name leads to %s: %v", id, err)
	}
}
