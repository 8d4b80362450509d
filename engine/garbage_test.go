package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/berth-engine/berth/build"
	"github.com/berth-engine/berth/build/solver"
	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/content"
	"github.com/berth-engine/berth/image"
	"github.com/berth-engine/berth/internal/testroot"
	"github.com/berth-engine/berth/layer"
	"github.com/berth-engine/berth/registry"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
)

// stores is an engine that only keeps things.
func stores(t *testing.T) *Engine {
	t.Helper()
	testroot.Require(t)
	root := testroot.Dir(t)
	dir := func(name string) string { return filepath.Join(root, name) }
	e := &Engine{containers: map[string]*instance{}, names: map[string]string{}, log: slog.New(slog.DiscardHandler), life: t.Context(), opts: Options{DataRoot: root}}
	if err := os.Mkdir(e.tempDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	var errs [5]error
	e.content, errs[0] = content.Open(dir("content"))
	e.layers, errs[1] = layer.Open(t.Context(), layer.Options{Root: dir("layers"), ExecRoot: dir("exec")})
	e.images, errs[2] = image.Open(root)
	e.store, errs[3] = container.OpenStore(dir("containers"), dir("exec/containers"))
	e.builder, errs[4] = build.Open(t.Context(), build.Options{
		Root: dir("build"), Layers: e.layers, Images: (*buildImages)(e), Executor: (*buildSteps)(e), Platform: platforms.DefaultSpec(),
		Hold: e.holdLayer, Drop: e.dropLayers,
	})
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := errors.Join(e.builder.Close(), e.layers.Close())
		e.content.Close()
		if err != nil {
			t.Error(err)
		}
	})
	return e
}

// addImage keeps an image of one layer.
func addImage(t *testing.T, e *Engine) image.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg, Mode: 0o644}), w.Close()); err != nil {
		t.Fatal(err)
	}
	id, err := e.Import(t.Context(), &b, "", nil, "", platforms.DefaultSpec())
	if err != nil {
		t.Fatal(err)
	}
	img, err := e.images.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestLeaseMeetsRemoval: what a removal had to leave, because it was held, is deleted when the last holder ends,
// whether what that did went well or not. Where the image is still here, nothing is.
func TestLeaseMeetsRemoval(t *testing.T) {
	e := stores(t)
	for _, c := range []struct {
		name  string
		err   error
		stays bool
	}{{"removed", nil, false}, {"removed, and failed", errors.New("failed"), false}, {"still here", nil, true}, {"still here, and failed", errors.New("failed"), true}} {
		img := addImage(t, e)
		here := func() bool {
			_, layer := e.layers.Get(img.DiffIDs[0])
			_, config := e.blob(img.ID)
			if errdefs.IsNotFound(layer) != errdefs.IsNotFound(config) {
				t.Errorf("%s: layer: %v, config: %v", c.name, layer, config)
			}
			return layer == nil
		}
		one, other := e.leases.lease(), e.leases.lease()
		for _, l := range []*lease{one, other} {
			if held, err := e.holdImage(l, img.ID); err != nil || held.ID != img.ID {
				t.Fatal(c.name, held.ID, err)
			}
		}
		if !c.stays {
			if _, err := e.RemoveImage(img.ID.String(), false); err != nil {
				t.Fatal(err)
			}
		}
		e.endWork(one, &c.err)
		if !here() {
			t.Errorf("%s: the other lease did not hold", c.name)
		}
		e.endLease(other)
		if here() != c.stays {
			t.Errorf("%s: here %v, want %v", c.name, here(), c.stays)
		}
		noLeases(t, e)
	}
}

// noLeases fails the test where something is held.
func noLeases(t *testing.T, e *Engine) {
	t.Helper()
	if e.leases.mu.Lock(); len(e.leases.counts)+len(e.leases.naming)+len(e.leases.using)+len(e.leases.doubts) > 0 {
		t.Errorf("held: %v, to be named: %v, in use: %v, in doubt: %v", e.leases.counts, e.leases.naming, e.leases.using, e.leases.doubts)
	}
	e.leases.mu.Unlock()
}

// TestHoldRemoved: what was removed before is not taken for held.
func TestHoldRemoved(t *testing.T) {
	e := stores(t)
	img := addImage(t, e)
	if _, err := e.RemoveImage(img.ID.String(), false); err != nil {
		t.Fatal(err)
	}
	l := e.leases.lease()
	if _, err := e.holdImage(l, img.ID); !errdefs.IsNotFound(err) {
		t.Errorf("held after its removal: %v", err)
	}
	e.endLease(l)
	noLeases(t, e)
}

// TestEnsure: the base image of a build stays until its release, and what was removed meanwhile goes then. Of one that
// is not to be had nothing is held.
func TestEnsure(t *testing.T) {
	e := stores(t)
	img := addImage(t, e)
	ref, err := reference.WithDigest(named(t, "base"), img.ID)
	if err != nil {
		t.Fatal(err)
	}
	ids, release, err := (*buildImages)(e).Ensure(t.Context(), ref, solver.ImageOptions{})
	if err != nil || !slices.Equal(ids, img.DiffIDs) {
		t.Fatal(ids, err)
	}
	if _, err := e.RemoveImage(img.ID.String(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := e.layers.Get(ids[0]); err != nil {
		t.Errorf("what the build stands on: %v", err)
	}
	release()
	nothingIsLeft(t, e)
	if e.registry, err = registry.New(registry.Options{}); err != nil {
		t.Fatal(err)
	}
	defer e.registry.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := (*buildImages)(e).Ensure(ctx, ref, solver.ImageOptions{}); err == nil {
		t.Error("a cancelled pull succeeded")
	}
	noLeases(t, e)
}

// TestPruneMeetsCreate: the image that a container is being made of goes only by force, and then what it is made of stays.
func TestPruneMeetsCreate(t *testing.T) {
	e := stores(t)
	img := addImage(t, e)
	l := e.leases.lease()
	if _, _, err := e.imageFor(l, img.ID.String(), nil); err != nil {
		t.Fatal(err)
	}
	if p, err := e.PruneImages(t.Context(), func(Image) bool { return false }); err != nil || len(p.Images) > 0 {
		t.Errorf("pruned: %v, %v", p.Images, err)
	}
	if _, err := e.RemoveImage(img.ID.String(), false); !errdefs.IsConflict(err) {
		t.Errorf("removed: %v", err)
	}
	if _, err := e.images.Get(img.ID); err != nil {
		t.Error(err)
	}
	if _, err := e.RemoveImage(img.ID.String(), true); err != nil {
		t.Errorf("removed by force: %v", err)
	}
	if _, err := e.layers.Get(img.DiffIDs[0]); err != nil {
		t.Errorf("what the container stands on: %v", err)
	}
	e.endLease(l)
	nothingIsLeft(t, e)
}

// TestPruneMeetsTag: an image that is given a name after a prune has seen it without one stays.
func TestPruneMeetsTag(t *testing.T) {
	e := stores(t)
	named, dangling := addImage(t, e), addImage(t, e)
	p, err := e.PruneImages(t.Context(), func(i Image) bool {
		if i.ID == named.ID {
			if err := e.Tag(i.ID.String(), "new"); err != nil {
				t.Error(err)
			}
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := e.images.Resolve("new"); err != nil || id != named.ID {
		t.Errorf("the named image: %s, %v", id, err)
	}
	if _, err := e.layers.Get(named.DiffIDs[0]); err != nil {
		t.Errorf("its layer: %v", err)
	}
	if _, err := e.images.Get(dangling.ID); !errdefs.IsNotFound(err) {
		t.Errorf("the image without a name: %v", err)
	}
	if len(p.Images) == 0 || p.Images[0].Deleted != dangling.ID.String() {
		t.Errorf("what was removed: %v", p.Images)
	}
}
