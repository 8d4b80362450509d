package solver

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/build/cache"
)

// TestHeld: a layer is held until nothing is executed that began before it, what outlives its job counted; then one that
// no record names is dropped.
func TestHeld(t *testing.T) {
	c := cache.Open(filepath.Join(t.TempDir(), "journal"))
	defer c.Close()
	var held, dropped []digest.Digest
	s, err := New(t.Context(), Options{
		Root: t.TempDir(), Cache: c,
		Hold: func(id digest.Digest) func() {
			held = append(held, id)
			return func() { held = slices.DeleteFunc(held, func(d digest.Digest) bool { return d == id }) }
		},
		Drop: func(ids []digest.Digest) { dropped = append(dropped, ids...) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	check := func(when string, wantHeld, wantDropped []digest.Digest) {
		t.Helper()
		if !slices.Equal(held, wantHeld) || !slices.Equal(dropped, wantDropped) {
			t.Errorf("%s: held %v, dropped %v, want %v, %v", when, held, dropped, wantHeld, wantDropped)
		}
	}
	named, unnamed, late := digest.FromString("named"), digest.FromString("unnamed"), digest.FromString("late")
	c.Put(&cache.Record{ID: cache.NewID(), Outputs: map[int][]cache.Layer{0: {{DiffID: named}}}})

	first, second, part := &job{}, &job{}, &part{}
	s.begin(first)
	s.mu.Lock()
	s.register(part)
	s.mu.Unlock()
	s.holdMade(named)
	s.holdMade(unnamed)
	began := time.Now()
	s.begin(second)
	s.end(first)
	check("what the first made is not all done", []digest.Digest{named, unnamed}, nil)
	if !s.Since().Before(began) {
		t.Error("what the first stood on may be forgotten before it is done")
	}
	s.ended(part, func() {})
	check("the second began later", nil, []digest.Digest{unnamed})
	if s.Since().Before(began) {
		t.Error("what the first stood on is kept for ever")
	}
	s.holdMade(late)
	s.letGo(nil)
	check("the second runs", []digest.Digest{late}, []digest.Digest{unnamed})
	s.end(second)
	check("nothing runs", nil, []digest.Digest{unnamed, late})
	s.letGo([]digest.Digest{named})
	check("the cache names it", nil, []digest.Digest{unnamed, late})
}

// TestForgotten: layers of a result whose record was forgotten before it was all layers, or of which not all parts can be
// layers, are dropped.
func TestForgotten(t *testing.T) {
	c := cache.Open(filepath.Join(t.TempDir(), "journal"))
	defer c.Close()
	var dropped []digest.Digest
	s, err := New(t.Context(), Options{Root: t.TempDir(), Cache: c, Drop: func(ids []digest.Digest) { dropped = append(dropped, ids...) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	one, other := digest.FromString("one"), digest.FromString("other")
	layer := func(id digest.Digest) *part { return layerPart(id, time.Time{}, "") }
	broken := &part{err: errors.New("no layer"), ready: make(chan struct{})}
	known := cache.NewID()
	c.Put(&cache.Record{ID: known, Outputs: map[int][]cache.Layer{}})

	s.remember(&execution{cache.NewID(), map[int]*result{0: {[]*part{layer(one)}}}})
	if !slices.Equal(dropped, []digest.Digest{one}) {
		t.Errorf("of a forgotten record: %v", dropped)
	}
	s.remember(&execution{known, map[int]*result{0: {[]*part{layer(other), broken}}}})
	if len(dropped) != 1 {
		t.Errorf("before it has failed: %v", dropped)
	}
	s.ended(broken, func() { close(broken.ready) })
	if !slices.Equal(dropped, []digest.Digest{one, other}) {
		t.Errorf("of a result that failed: %v", dropped)
	}
}
