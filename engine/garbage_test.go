package engine

import (
	"archive/tar"
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/berth-engine/berth/build"
	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/content"
	"github.com/berth-engine/berth/image"
	"github.com/berth-engine/berth/internal/testroot"
	"github.com/berth-engine/berth/layer"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
)

// stores is an engine that only keeps things.
func stores(t *testing.T) *Engine {
	t.Helper()
	testroot.Require(t)
	root := testroot.Dir(t)
	dir := func(name string) string { return filepath.Join(root, name) }
	e := &Engine{containers: map[string]*instance{}, names: map[string]string{}, log: slog.New(slog.DiscardHandler)}
	var errs [5]error
	e.content, errs[0] = content.Open(dir("content"))
	e.layers, errs[1] = layer.Open(t.Context(), layer.Options{Root: dir("layers"), ExecRoot: dir("exec")})
	e.images, errs[2] = image.Open(root)
	e.store, errs[3] = container.OpenStore(dir("containers"), dir("exec/containers"))
	e.builder, errs[4] = build.Open(t.Context(), build.Options{
		Root: dir("build"), Layers: e.layers, Images: (*buildImages)(e), Executor: (*buildSteps)(e), Platform: platforms.DefaultSpec(),
		Hold: e.leases.layer,
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

// TestCreateMeetsRemoval: what a removal of an image had to leave, because a create that then failed held it, is
// deleted at the end of the create. Where the image is still here, or the create went well, nothing is.
func TestCreateMeetsRemoval(t *testing.T) {
	e := stores(t)
	failed := errors.New("failed")
	for _, c := range []struct {
		name    string
		removed bool
		err     error
		stays   bool
	}{{"removed", true, failed, false}, {"still here", false, failed, true}} {
		img := addImage(t, e)
		l := e.leases.lease()
		l.hold(belongings(img)...)
		if c.removed {
			if _, err := e.RemoveImage(t.Context(), img.ID.String(), false); err != nil {
				t.Fatal(err)
			}
			if _, err := e.layers.Get(img.DiffIDs[0]); err != nil {
				t.Fatalf("%s: the lease did not hold: %v", c.name, err)
			}
		}
		e.letGoOf(t.Context(), l, img.ID, &c.err)
		if _, err := e.layers.Get(img.DiffIDs[0]); errdefs.IsNotFound(err) == c.stays {
			t.Errorf("%s: layer: %v", c.name, err)
		}
		if _, err := e.blob(img.ID); errdefs.IsNotFound(err) == c.stays {
			t.Errorf("%s: config: %v", c.name, err)
		}
		if len(e.leases.counts) != 0 {
			t.Errorf("%s: leases are left: %v", c.name, e.leases.counts)
		}
	}
}

// TestHoldImage: what is held stays over a removal, and what was removed before is not taken for held.
func TestHoldImage(t *testing.T) {
	e := stores(t)
	img := addImage(t, e)
	l := e.leases.lease()
	defer l.end()
	if err := e.holdImage(l, img); err != nil {
		t.Fatal(err)
	}
	if _, err := e.RemoveImage(t.Context(), img.ID.String(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := e.layers.Get(img.DiffIDs[0]); err != nil {
		t.Errorf("a held layer: %v", err)
	}
	if err := e.holdImage(l, img); !errdefs.IsNotFound(err) {
		t.Errorf("held after its removal: %v", err)
	}
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
