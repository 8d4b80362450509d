package layer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

func TestPutGetListRemove(t *testing.T) {
	s := newStore(t, Auto)
	tarA := makeTar(t, item{name: "a", data: "1"}, item{name: "d/x", data: "x"})
	want := digest.FromBytes(tarA)
	if _, err := s.Get(want); !errdefs.IsNotFound(err) {
		t.Errorf("before it was put: %v", err)
	}
	a, err := s.Put(t.Context(), bytes.NewReader(tarA), want)
	if err != nil || a.DiffID != want || a.TarSize != int64(len(tarA)) || a.Size < a.TarSize || len(a.Implied) != 1 || a.Implied[0] != "d" {
		t.Fatalf("%+v %v", a, err)
	}
	again, err := s.Put(t.Context(), bytes.NewReader(tarA), want)
	if err != nil || again.Metadata != a.Metadata {
		t.Errorf("put again: %+v %v", again, err)
	}
	for _, other := range [][]byte{makeTar(t, item{name: "c", data: "3"}), tarA[:len(tarA)-1], append(slices.Clone(tarA), 0)} {
		if _, err := s.Put(t.Context(), bytes.NewReader(other), want); !errdefs.IsInvalidArgument(err) {
			t.Errorf("another tar for a layer that is here: %v", err)
		}
	}
	b := put(t, s, item{name: "b", data: "2"})
	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].DiffID > list[1].DiffID {
		t.Errorf("list: %v %v", list, err)
	}
	r, err := s.Tar(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, tarA) || r.Close() != nil {
		t.Errorf("the tar came back as %d bytes, %v", len(got), err)
	}
	if err := s.Verify(t.Context(), want); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), want, b, want); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), want); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := s.Get(b); !errdefs.IsNotFound(err) {
		t.Errorf("after it was removed: %v", err)
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("list: %v %v", list, err)
	}
	s.background.Wait()
	for _, dir := range []string{s.files, s.tmp, s.derived} {
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
}

// Who is to keep a layer hears which it is before it is looked for: whoever removes it until then is noticed.
func TestPutHeldTellsFirst(t *testing.T) {
	s := newStore(t, Auto)
	tar := makeTar(t, item{name: "a", data: "1"})
	id := digest.FromBytes(tar)
	for _, want := range []digest.Digest{"", id} {
		if _, err := s.Put(t.Context(), bytes.NewReader(tar), ""); err != nil {
			t.Fatal(err)
		}
		var told []digest.Digest
		made, err := s.PutHeld(t.Context(), bytes.NewReader(tar), want, func(d digest.Digest) {
			told = append(told, d)
			if err := s.Remove(t.Context(), d); err != nil {
				t.Error(err)
			}
		})
		if err != nil || made.DiffID != id || len(told) == 0 || told[0] != id {
			t.Fatalf("want %q: %+v, told %v, %v", want, made, told, err)
		}
		if _, err := s.Get(id); err != nil {
			t.Errorf("want %q: it was removed before it was looked for, and not put: %v", want, err)
		}
	}
}

func TestPutRefuses(t *testing.T) {
	s := newStore(t, Auto)
	whole := makeTar(t, item{name: "a", data: strings.Repeat("x", 5000)})
	broken := errors.New("the connection broke")
	for name, c := range map[string]struct {
		r    io.Reader
		want digest.Digest
		is   func(error) bool
	}{
		"another digest": {bytes.NewReader(whole), digest.FromString("x"), errdefs.IsInvalidArgument},
		"no digest":      {bytes.NewReader(whole), "sha256:../../x", errdefs.IsInvalidArgument},
		"sha512":         {bytes.NewReader(whole), digest.Digest("sha512:" + strings.Repeat("0", 128)), errdefs.IsInvalidArgument},
		"cut off":        {bytes.NewReader(whole[:3000]), "", errdefs.IsInvalidArgument},
		"no tar":         {strings.NewReader(strings.Repeat("no tar ", 1000)), "", errdefs.IsInvalidArgument},
		"reader fails":   {io.MultiReader(bytes.NewReader(whole[:3000]), failing{broken}), "", func(err error) bool { return errors.Is(err, broken) }},
	} {
		if _, err := s.Put(t.Context(), c.r, c.want); err == nil || !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, dir := range []string{s.files, s.tmp} {
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A flipped bit in what is not tar (one made a setuid program, with the tar's hash unchanged) is found
// before the layer is mounted, and mended from the tar, or from another copy of it.
func TestFlippedBit(t *testing.T) {
	s := newStore(t, Auto)
	id := put(t, s, item{name: "bin/"}, item{name: "bin/sh", data: "#!", mode: 0o755}, item{name: "etc/"}, item{name: "etc/link", link: "../bin/sh"})
	l, err := s.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(s.layerFile(id))
	if err != nil {
		t.Fatal(err)
	}
	flip := func(offset int64) {
		t.Helper()
		b := bytes.Clone(sound)
		b[offset] ^= 0x08
		if err := os.WriteFile(s.layerFile(id), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, offset := range []int64{0, 1024, 1024 + 40, 4000, tarOffset + l.TarSize, tarOffset + l.TarSize + 100, l.Size - 1} {
		flip(offset)
		if err := s.Verify(t.Context(), id); !errdefs.IsDataLoss(err) {
			t.Errorf("bit at %d: verified all the same: %v", offset, err)
		}
		if err := s.Mend(t.Context(), id); err != nil {
			t.Errorf("bit at %d: %v", offset, err)
		}
		if now, err := os.ReadFile(s.layerFile(id)); err != nil || !bytes.Equal(now, sound) {
			t.Errorf("bit at %d: mended to something else: %v", offset, err)
		}
		flip(offset)
		st, err := s.Stack(t.Context(), []digest.Digest{id})
		if err != nil {
			t.Fatalf("bit at %d: %v", offset, err)
		}
		if st, err := os.Stat(mount(t, st, nil, MountOptions{}) + "/bin/sh"); err != nil || st.Mode() != 0o755 {
			t.Errorf("bit at %d: mounted %v %v", offset, st.Mode(), err)
		}
		st.Release()
		if _, err := s.releaseIdle(); err != nil {
			t.Error(err)
		}
		if now, err := os.ReadFile(s.layerFile(id)); err != nil || !bytes.Equal(now, sound) {
			t.Errorf("bit at %d: repaired to something else: %v", offset, err)
		}
		if err := s.Verify(t.Context(), id); err != nil {
			t.Errorf("bit at %d, repaired: %v", offset, err)
		}
	}
	flip(tarOffset + 600)
	if err := s.Verify(t.Context(), id); !errdefs.IsDataLoss(err) {
		t.Errorf("the tar is damaged: %v", err)
	}
	twice := bytes.Clone(sound) // nothing to mend it from
	twice[tarOffset+600] ^= 1
	twice[l.Size-1] ^= 1
	if err := os.WriteFile(s.layerFile(id), twice, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Mend(t.Context(), id); !errdefs.IsDataLoss(err) {
		t.Errorf("tar and metadata are damaged: %v", err)
	}
	if st, err := s.Stack(t.Context(), []digest.Digest{id}); !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), "pull, load or build its image again") {
		t.Errorf("tar and metadata are damaged: stacked all the same: %v %v", st, err)
	}
	if mounted, pinned := s.counts(); mounted != 0 || pinned != 0 {
		t.Errorf("%d mounted, %d pinned", mounted, pinned)
	}
	// Another copy, the wrong one first.
	for _, c := range []struct {
		copy string
		ok   bool
	}{{"rubbish", false}, {string(sound[tarOffset : tarOffset+l.TarSize-1024]), false}, {string(sound[tarOffset : tarOffset+l.TarSize]), true}} {
		s.restore = func(_ context.Context, want digest.Digest) (io.ReadCloser, error) {
			if want != id {
				return nil, errdefs.ErrNotFound
			}
			return io.NopCloser(strings.NewReader(c.copy)), nil
		}
		if err := s.Mend(t.Context(), id); c.ok && err != nil || !c.ok && !errdefs.IsDataLoss(err) {
			t.Errorf("with another copy of %d bytes: %v", len(c.copy), err)
		}
	}
	if now, err := os.ReadFile(s.layerFile(id)); err != nil || !bytes.Equal(now, sound) {
		t.Errorf("restored to something else: %v", err)
	}
	if left, err := os.ReadDir(s.tmp); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
	if err := s.Remove(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// A layer that is damaged is replaced by putting it again, in either way; who has it mounted does not notice.
func TestPutReplacesDamaged(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		s := newStore(t, form)
		tar := makeTar(t, item{name: "file", data: "content"})
		id := digest.FromBytes(tar)
		if _, err := s.Check(id); !errdefs.IsNotFound(err) {
			t.Errorf("before: %v", err)
		}
		put(t, s, item{name: "file", data: "content"})
		damage := map[string]func() error{
			"metadata": func() error {
				b, err := os.ReadFile(s.layerFile(id))
				if err != nil {
					return err
				}
				b[len(b)-1] ^= 1
				return os.WriteFile(s.layerFile(id), b, 0o600)
			},
			"gone": func() error { return os.Remove(s.layerFile(id)) },
			"record": func() error {
				s.forget(id)
				return os.WriteFile(s.layerRecord(id), []byte("{}\n"), 0o600)
			},
		}
		for name, harm := range damage {
			for _, want := range []digest.Digest{id, ""} {
				before := stack(t, s, id)
				if err := harm(); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Check(id); !errdefs.IsDataLoss(err) {
					t.Errorf("%s: checked: %v", name, err)
				}
				if _, err := s.Put(t.Context(), bytes.NewReader(tar), want); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if _, err := s.Check(id); err != nil {
					t.Errorf("%s: after Put(%q): %v", name, want, err)
				}
				if err := s.Verify(t.Context(), id); err != nil {
					t.Errorf("%s: after Put(%q): %v", name, want, err)
				}
				before.Release()
				if _, err := s.releaseIdle(); err != nil {
					t.Error(err)
				}
				if got := content(t, mount(t, stack(t, s, id), nil, MountOptions{})+"/file"); got != "content" {
					t.Errorf("%s: after Put(%q): %q", name, want, got)
				}
			}
		}
	})
}

// A damaged record damages one layer, which can be mended.
func TestDamagedRecord(t *testing.T) {
	dir, id, other := "", digest.Digest(""), digest.Digest("")
	s := newStore(t, Auto)
	dir = filepath.Dir(filepath.Dir(s.files))
	id, other = put(t, s, item{name: "a"}), put(t, s, item{name: "b"})
	want, _ := s.Get(id)
	if err := os.WriteFile(s.layerRecord(id), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Auto)
	if _, err := s.Get(id); !errdefs.IsDataLoss(err) {
		t.Errorf("get: %v", err)
	}
	list, err := s.List()
	if len(list) != 1 || list[0].DiffID != other || err == nil || !strings.Contains(err.Error(), id.Encoded()) {
		t.Errorf("list: %v %v", list, err)
	}
	if err := os.WriteFile(s.layerRecord(other), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.forget(other)
	if got := content(t, mount(t, stack(t, s, other), nil, MountOptions{})+"/b"); got != "" {
		t.Errorf("stacked %q", got)
	}
	if err := os.WriteFile(s.layerRecord(other), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.forget(other)
	if err := s.Mend(t.Context(), other); !errdefs.IsConflict(err) {
		t.Errorf("of one in use: %v", err)
	}
	if err := s.Mend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(id); err != nil || got.Metadata != want.Metadata || got.TarSize != want.TarSize {
		t.Errorf("mended: %+v %v", got, err)
	}
	if err := s.Mend(t.Context(), digest.FromString("x")); !errdefs.IsNotFound(err) {
		t.Errorf("of nothing: %v", err)
	}
}

// What a killed Put, Remove or derivation leaves is gone after the next Open, and nothing else is.
func TestSweep(t *testing.T) {
	s := newStore(t, Auto)
	dir := filepath.Dir(filepath.Dir(s.files))
	keep := put(t, s, item{name: "keep"})
	lost, named, unnamed := put(t, s, item{name: "lost"}), put(t, s, item{name: "named"}), digest.FromString("unnamed")
	for _, err := range []error{
		os.Remove(s.layerFile(lost)),    // a record without its file
		os.Remove(s.layerRecord(named)), // killed before the record was written, or after it was removed
		os.WriteFile(s.layerFile(unnamed), []byte("half"), 0o600),
		os.WriteFile(filepath.Join(s.files, ".new-123"), []byte("half a record"), 0o600),
		os.WriteFile(filepath.Join(s.tmp, "put-123"), []byte("half a layer"), 0o600),
		os.MkdirAll(filepath.Join(s.tmp, "unpack-123", "deep", "tree"), 0o700),
		os.MkdirAll(filepath.Join(s.unpacked, unnamed.Encoded(), "etc"), 0o700),
		os.WriteFile(filepath.Join(s.derived, "top-x.erofs"), []byte("half"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s = openStore(t, dir, Auto)
	s.background.Wait()
	for _, dir := range []string{s.tmp, s.unpacked, s.derived} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left in %s: %v %v", dir, left, err)
		}
	}
	if left, err := os.ReadDir(s.files); err != nil || len(left) != 2 {
		t.Errorf("left in %s: %v %v", s.files, left, err)
	}
	if err := s.Verify(t.Context(), keep); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(lost); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}
