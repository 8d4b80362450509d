package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func named(t *testing.T, s string) reference.Named {
	t.Helper()
	ref, err := ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func filled(t *testing.T) (*Store, Image, Image) {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a, b := Image{ID: digest.FromString("a"), Size: 1}, Image{ID: digest.FromString("b"), Size: 2}
	for _, img := range []Image{a, b} {
		put(t, s, img)
	}
	return s, a, b
}

func put(t *testing.T, s *Store, img Image) {
	t.Helper()
	if err := s.Update(img.ID, func(Image, bool) (Image, error) { return img, nil }); err != nil {
		t.Fatal(err)
	}
}

// TestUpdate: what is there is seen, and an error of the change leaves it.
func TestUpdate(t *testing.T) {
	s, a, _ := filled(t)
	failed := errors.New("failed")
	err := s.Update(a.ID, func(old Image, found bool) (Image, error) {
		if !found || old.Size != a.Size {
			t.Errorf("found %v: %+v", found, old)
		}
		old.Size = 7
		return old, failed
	})
	if now, _ := s.Get(a.ID); !errors.Is(err, failed) || now.Size != a.Size {
		t.Errorf("after an error: %v, %+v", err, now)
	}
	err = s.Update(a.ID, func(old Image, _ bool) (Image, error) { old.Size = 7; return old, nil })
	if now, _ := s.Get(a.ID); err != nil || now.Size != 7 {
		t.Errorf("%v, %+v", err, now)
	}
	before, failedBefore := os.Stat(s.imagePath(a.ID))
	err = s.Update(a.ID, func(old Image, _ bool) (Image, error) { return old, nil })
	if after, failedAfter := os.Stat(s.imagePath(a.ID)); errors.Join(err, failedBefore, failedAfter) != nil || !os.SameFile(before, after) {
		t.Errorf("what is as it was is written again: %v", err)
	}
	none := digest.FromString("none")
	err = s.Update(none, func(_ Image, found bool) (Image, error) {
		if found {
			t.Error("found what is not there")
		}
		return Image{}, NotFound("none")
	})
	if _, now := s.Get(none); !errdefs.IsNotFound(err) || !errdefs.IsNotFound(now) {
		t.Errorf("none: %v, %v", err, now)
	}
}

func TestNames(t *testing.T) {
	s, a, b := filled(t)
	long := "registry.example/" + strings.Repeat("x/", 100) + "x:" + strings.Repeat("t", 128)
	for _, n := range []string{"app", "app:1", long} {
		if before, err := s.Tag(named(t, n), a.ID, ""); before != "" || err != nil {
			t.Fatal(n, before, err)
		}
	}
	if before, err := s.Tag(named(t, "app:1"), b.ID, ""); before != a.ID || err != nil {
		t.Fatal(before, err)
	}
	for user, want := range map[string]digest.Digest{
		"app": a.ID, "app:latest": a.ID, "docker.io/library/app": a.ID, "app:1": b.ID, long: a.ID,
		a.ID.String(): a.ID, a.ID.Encoded(): a.ID, a.ID.Encoded()[:12]: a.ID, "sha256:" + b.ID.Encoded()[:12]: b.ID,
	} {
		if got, err := s.Resolve(user); got != want || err != nil {
			t.Errorf("%s: %s %v", user, got, err)
		}
	}
	names, err := s.Names()
	if err != nil || len(names[a.ID]) != 2 || len(names[b.ID]) != 1 {
		t.Errorf("%v %v", names, err)
	}
	if err := s.Untag(named(t, "app:1"), a.ID); !errdefs.IsNotFound(err) {
		t.Errorf("another image's name: %v", err)
	}
	if err := s.Untag(named(t, "app:1"), b.ID); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"app:1", "nothing", digest.FromString("c").String(), "00"} {
		if _, err := s.Resolve(user); !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", user, err)
		}
	}
	for _, user := range []string{"App", "", "a:b:c"} {
		if _, err := s.Resolve(user); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", user, err)
		}
	}
}

func TestDamageIsSetAside(t *testing.T) {
	s, a, b := filled(t)
	if err := os.WriteFile(filepath.Join(s.root, "images", a.ID.Encoded()), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	images, err := s.List()
	if len(images) != 1 || images[0].ID != b.ID || err == nil || !strings.Contains(err.Error(), "set aside") {
		t.Errorf("%v %v", images, err)
	}
	if !s.Damaged() {
		t.Error("a record that was set aside is forgotten")
	}
	if images, err := s.List(); len(images) != 1 || err != nil {
		t.Errorf("afterwards: %v %v", images, err)
	}
}

func TestParseConfig(t *testing.T) {
	for name, in := range map[string]string{
		"no JSON":         `{`,
		"foreign rootfs":  `{"rootfs":{"type":"windows"}}`,
		"no digest":       `{"rootfs":{"type":"layers","diff_ids":["../../etc"]}}`,
		"another digest":  `{"rootfs":{"type":"layers","diff_ids":["sha512:` + strings.Repeat("0", 128) + `"]}}`,
		"no list of them": `{"rootfs":{"diff_ids":"x"}}`,
	} {
		if _, err := ParseConfig([]byte(in)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":[]},"config":{"Healthcheck":{"Test":["CMD","x"]}}}`))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = ParseConfig(b) })
}

func TestRemoveTwice(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	id := digest.FromString("image")
	put(t, s, Image{ID: id, Size: 3})
	if was, err := s.Remove(id); err != nil || was.Size != 3 {
		t.Fatal(was, err)
	}
	if _, err := s.Remove(id); !errdefs.IsNotFound(err) {
		t.Errorf("removed twice: %v", err)
	}
}

// TestForms: a root leads to the form that has it, before one whose manifest it is.
func TestForms(t *testing.T) {
	describe := func(s string) *ocispec.Descriptor { return &ocispec.Descriptor{Digest: digest.FromString(s)} }
	byIndex := Form{Manifest: describe("manifest"), Index: describe("index")}
	alone, other := Form{Manifest: describe("manifest")}, Form{Manifest: describe("other")}
	img := Image{}.With(byIndex).With(other).With(alone).With(byIndex)
	if len(img.Forms()) != 3 || img.Root() != byIndex.Root() {
		t.Fatalf("%+v", img.Forms())
	}
	for root, want := range map[digest.Digest]digest.Digest{
		byIndex.Root(): byIndex.Root(), alone.Root(): alone.Root(), other.Root(): other.Root(), "": byIndex.Root(), digest.FromString("none"): byIndex.Root(),
	} {
		in := img.In(root)
		if in.Root() != want || len(in.Forms()) != 3 {
			t.Errorf("in %s: %s of %d", root, in.Root(), len(in.Forms()))
		}
	}
	if in := (Image{}).With(byIndex).With(other).In(byIndex.Manifest.Digest); in.Root() != byIndex.Root() {
		t.Errorf("by its manifest: %s", in.Root())
	}
	if img.Has("") || !img.Has(byIndex.Manifest.Digest) || img.Has(digest.FromString("none")) {
		t.Error("what it has")
	}
}
