package layer

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/testroot"
)

// eachForm runs the test for every storage form.
func eachForm(t *testing.T, test func(t *testing.T, form Form)) {
	for _, form := range []Form{Direct, Loop, Dir} {
		t.Run(string(form), func(t *testing.T) {
			if form == Direct { // EROFS from a file
				needsLinux(t, 6, 12)
			}
			test(t, form)
		})
	}
}

// stories are lists of layers, bottom first: what every form has to show alike, and as who unpacks one
// after the other over what is there.
var stories = map[string][][]item{
	"one":  {baseItems},
	"same": {baseItems, baseItems},
	"deletes": {baseItems, {
		{name: "etc/"}, {name: "etc/.wh.old"}, {name: "usr/"}, {name: "usr/.wh.share"}, {name: ".wh.lib"}, {name: "bin/"}, {name: "bin/.wh.pang"},
	}},
	"deletes and comes back": {baseItems, {
		{name: "etc/"}, {name: "etc/.wh.old"}, {name: "usr/"}, {name: "usr/.wh.share"},
	}, {
		{name: "etc/"}, {name: "etc/old", data: "again", mode: 0o600}, {name: "usr/"}, {name: "usr/share/", mode: 0o700}, {name: "usr/share/new", data: "n"},
	}},
	"directory becomes file": {baseItems, {
		{name: "usr/"}, {name: "usr/share", data: "now a file"}, {name: "etc/"}, {name: "etc/dir.d", link: "hosts"},
	}},
	"file becomes directory": {baseItems, {
		{name: "var/"}, {name: "var/file/"}, {name: "var/file/in", data: "in"}, {name: "lib/"}, {name: "lib/x", data: "x"},
	}},
	"opaque": {baseItems, {
		{name: "etc/"}, {name: "etc/dir.d/", mode: 0o700}, {name: "etc/dir.d/.wh..wh..opq"}, {name: "etc/dir.d/b", data: "other"}, {name: "etc/dir.d/c", data: "c"},
	}},
	"opaque, no parents": {baseItems, {
		{name: "tmp/a/", mode: 0o711}, {name: "tmp/a/b", data: "b"},
	}, {
		{name: "tmp/.wh..wh..opq", mtime: epoch + 5}, {name: "tmp/new", data: "new", mtime: epoch + 5},
		{name: "usr/lib/.wh..wh..opq"},
		{name: "etc/dir.d/.wh..wh..opq"}, {name: "etc/dir.d/sub/f", data: "f", mtime: epoch + 5},
	}},
	"opaque, no parents, twice": {baseItems, {
		{name: "tmp/.wh..wh..opq"}, {name: "tmp/new", data: "new"}, {name: "tmp/sub/", mode: 0o700}, {name: "tmp/sub/f", data: "f"},
	}, {
		{name: "tmp/.wh..wh..opq"}, {name: "tmp/sub/g", data: "g", mtime: epoch + 5},
	}, {
		{name: "usr/.wh.lib"}, {name: "tmp/newer", data: "n"},
	}, {
		{name: "usr/lib/.wh..wh..opq"}, {name: "usr/lib/f", data: "f", mtime: epoch + 5},
	}},
	"opaque, no parents, at the root": {baseItems, {
		{name: ".wh..wh..opq"}, {name: "tmp/.wh..wh..opq"}, {name: "tmp/new", data: "new"},
	}},
	"whiteout beside a directory": {baseItems, {
		{name: "etc/"}, {name: "etc/.wh.dir.d"}, {name: "etc/dir.d/", mode: 0o711}, {name: "etc/dir.d/c", data: "c"},
	}},
	"opaque at the root": {baseItems, {
		{name: ".wh..wh..opq"}, {name: "only", data: "only"},
	}, {
		{name: "above", data: "above"},
	}},
	"hard links and attributes": {baseItems, {
		{name: "opt/"},
		{name: "opt/a", data: "shared", uid: 1000, mode: 0o600, xattrs: map[string]string{"user.long": strings.Repeat("v", 3000), "trusted.t": "\x00"}},
		{name: "opt/b", hard: "opt/a"},
		{name: "opt/c", hard: "opt/b"},
		{name: "opt/cap", data: "x", xattrs: map[string]string{"security.capability": capNetBind}},
		{name: "opt/fifo", typ: tar.TypeFifo},
		{name: "opt/disk", typ: tar.TypeBlock, major: 259, minor: 70_000, mode: 0o660},
		{name: "opt/" + strings.Repeat("l", 255), data: "long"},
		{name: "opt/target", link: strings.Repeat("x/", 1500)},
		{name: "opt/\xff\x01", data: "bytes"},
		{name: "opt/old", data: "before 1970", mtime: -100},
		{name: "opt/empty"},
		{name: "opt/big", data: strings.Repeat("0123456789", 100_000)},
	}},
	"no parents": {baseItems, {
		{name: "tmp/f", data: "f"},
		{name: "usr/lib/new", data: "new"},
		{name: "fresh/deep/f", data: "f", mtime: epoch + 5},
	}},
	"no parents, twice": {baseItems, {
		{name: "tmp/f", data: "f"},
	}, {
		{name: "etc/conf", data: "x"}, {name: "tmp/g", data: "g"},
	}, {
		{name: "tmp/", mode: 0o700, uid: 3}, {name: "tmp/h", data: "h"},
	}, {
		{name: "tmp/i", data: "i"},
	}},
	"no parents in what was deleted": {baseItems, {
		{name: "usr/"}, {name: "usr/.wh.lib"}, {name: "etc/.wh.dir.d"},
	}, {
		{name: "usr/lib/new", data: "new", mtime: epoch + 5}, {name: "etc/dir.d/c", data: "c", mtime: epoch + 5},
	}},
	"no parents, deleted above": {baseItems, {
		{name: "tmp/f", data: "f"},
	}, {
		{name: ".wh.tmp"},
	}},
	"links to layers below": {baseItems, {
		{name: "bin/"}, {name: "bin/sh", hard: "bin/tool"}, {name: "bin/bash", hard: "bin/tool"}, {name: "opt/pong", hard: "bin/ping"},
	}},
	"links to links to layers below": {baseItems, {
		{name: "bin/sh", hard: "bin/tool"},
	}, {
		{name: "bin/bash", hard: "bin/sh"}, {name: "etc/sym", hard: "lib"},
	}},
	"links to layers below, changed above": {baseItems, {
		{name: "bin/sh", hard: "bin/tool"}, {name: "bin/bash", hard: "bin/tool"}, {name: "etc/alias", hard: "etc/hosts"},
	}, {
		{name: "bin/"}, {name: "bin/.wh.sh"}, {name: "etc/"}, {name: "etc/alias", data: "another"},
	}},
}

// unpackInOrder unpacks the layers' tars one over the other, as it was done before there were overlays:
// what every stack has to look like.
func unpackInOrder(t testing.TB, dir string, layers [][]item) {
	t.Helper()
	dirs := map[string]item{} // attributes of directories are set at the end
	for _, items := range layers {
		mine := map[string]bool{}
		for _, it := range items {
			if err := unpackItem(dir, it, dirs, mine); err != nil {
				t.Fatalf("%s: %v", it.name, err)
			}
		}
	}
	for p, it := range dirs {
		full := filepath.Join(dir, p)
		if _, err := os.Lstat(full); errors.Is(err, fs.ErrNotExist) || p == "." {
			continue
		}
		if err := dressItem(full, it); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func unpackItem(dir string, it item, dirs map[string]item, mine map[string]bool) error {
	p := path.Clean(it.name)
	full := filepath.Join(dir, p)
	for d := path.Dir(p); d != "."; d = path.Dir(d) {
		if _, err := os.Lstat(filepath.Join(dir, d)); errors.Is(err, fs.ErrNotExist) {
			dirs[d] = item{name: d + "/", mtime: it.mtime}
		}
		mine[d] = true
	}
	if err := os.MkdirAll(path.Dir(full), 0o755); err != nil {
		return err
	}
	base := path.Base(p)
	if base == ".wh..wh..opq" {
		names, err := os.ReadDir(path.Dir(full))
		for _, n := range names {
			if in := path.Join(path.Dir(p), n.Name()); !mine[in] {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, in)))
			}
		}
		return err
	}
	if gone, ok := strings.CutPrefix(base, ".wh."); ok {
		for d := range dirs {
			if strings.HasPrefix(d+"/", path.Join(path.Dir(p), gone)+"/") {
				delete(dirs, d)
			}
		}
		return os.RemoveAll(filepath.Join(path.Dir(full), gone))
	}
	mine[p] = true
	info, err := os.Lstat(full)
	isDir := strings.HasSuffix(it.name, "/")
	if err == nil && !(isDir && info.IsDir()) {
		if err := os.RemoveAll(full); err != nil {
			return err
		}
		for d := range dirs {
			if strings.HasPrefix(d+"/", p+"/") {
				delete(dirs, d)
			}
		}
	}
	mode := uint32(it.mode)
	switch {
	case isDir:
		dirs[p] = it
		if err == nil && info.IsDir() {
			return nil
		}
		return os.Mkdir(full, 0o755)
	case it.hard != "":
		return os.Link(filepath.Join(dir, it.hard), full)
	case it.link != "":
		err = os.Symlink(it.link, full)
	case it.typ == tar.TypeChar:
		err = unix.Mknod(full, unix.S_IFCHR|mode, int(unix.Mkdev(uint32(it.major), uint32(it.minor))))
	case it.typ == tar.TypeBlock:
		err = unix.Mknod(full, unix.S_IFBLK|mode, int(unix.Mkdev(uint32(it.major), uint32(it.minor))))
	case it.typ == tar.TypeFifo:
		err = unix.Mkfifo(full, mode)
	default:
		err = os.WriteFile(full, []byte(it.data), 0o644)
	}
	if err != nil {
		return err
	}
	return dressItem(full, it)
}

func dressItem(full string, it item) error {
	if err := os.Lchown(full, it.uid, it.uid); err != nil {
		return err
	}
	mode := uint32(it.mode)
	if mode == 0 {
		if mode = 0o644; strings.HasSuffix(it.name, "/") {
			mode = 0o755
		}
	}
	if it.link == "" {
		if err := unix.Chmod(full, mode); err != nil {
			return err
		}
	}
	for k, v := range it.xattrs {
		if err := unix.Lsetxattr(full, k, []byte(v), 0); err != nil {
			return err
		}
	}
	when := unix.Timespec{Sec: epoch}
	if it.mtime != 0 {
		when.Sec = it.mtime
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, full, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
}

// The storage contract: every form shows every stack as if its layers had been unpacked in order.
func TestContract(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		s := newStore(t, form)
		for name, layers := range stories {
			t.Run(name, func(t *testing.T) {
				var ids []digest.Digest
				for _, items := range layers {
					ids = append(ids, put(t, s, items...))
				}
				want := testroot.Dir(t)
				unpackInOrder(t, want, layers)
				st, err := s.Stack(t.Context(), ids)
				if err != nil {
					t.Fatal(err)
				}
				view := mountFile(t, st, nil, MountOptions{})
				got := treeOf(t, fdPath(view))
				view.Close()
				if strings.HasPrefix(name, "links to") {
					// As with every overlay, what was copied up is no longer the file below.
					sameTree(t, name, withoutNames(got), withoutNames(treeOf(t, want)))
				} else {
					sameTree(t, name, got, treeOf(t, want))
				}

				// A container sees the same, can write, and leaves the layers as they are.
				u := upperOf(t, s)
				rw := mountFile(t, st, u, MountOptions{Volatile: true})
				sameTree(t, name+", with an upper", treeOf(t, fdPath(rw)), got)
				if err := errors.Join(os.WriteFile(fdPath(rw)+"/written", nil, 0o644), os.RemoveAll(fdPath(rw)+"/bin")); err != nil {
					t.Error(err)
				}
				rw.Close()
				view = mountFile(t, st, nil, MountOptions{})
				sameTree(t, name+", afterwards", treeOf(t, fdPath(view)), got)
				view.Close()
				st.Release()
				slices.Sort(ids)
				ids = slices.Compact(ids)
				if err := errors.Join(u.Destroy(), s.Remove(t.Context(), ids...)); err != nil {
					t.Error(err)
				}
			})
		}
		s.background.Wait()
		for _, dir := range []string{s.files, s.derived, s.unpacked, s.tmp, s.mounts} {
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left in %s: %v %v", dir, left, err)
			}
		}
		info, err := s.Info(t.Context())
		if err != nil || info.Form != form || info.Mounted != 0 || info.Pinned != 0 || info.Overlay == "" {
			t.Errorf("%+v %v", info, err)
		}
	})
}

// Where a layer says nothing of a directory but that what was in it is gone, its attributes are those that
// umoci gives it.
func TestOpaqueLikeUmoci(t *testing.T) {
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Skip("needs umoci (Debian's package of that name)")
	}
	s := newStore(t, Auto)
	for name, layers := range stories {
		if !strings.HasPrefix(name, "opaque, no parents") {
			continue
		}
		var ids []digest.Digest
		dir := testroot.Dir(t)
		for _, items := range layers {
			ids = append(ids, put(t, s, items...))
		}
		writeLayout(t, dir+"/image", s, ids)
		if out, err := exec.Command("umoci", "unpack", "--image", dir+"/image:latest", dir+"/bundle").CombinedOutput(); err != nil {
			t.Fatalf("umoci: %v\n%s", err, out)
		}
		sameTree(t, name, withoutTimes(treeOf(t, mount(t, stack(t, s, ids...), nil, MountOptions{}))), withoutTimes(treeOf(t, dir+"/bundle/rootfs")))
	}
}

// withoutTimes leaves out the root, and the times of directories: umoci's are sometimes of now.
func withoutTimes(tree map[string]string) map[string]string {
	out := map[string]string{}
	time := regexp.MustCompile(` \d+\.\d{9}`)
	for p, line := range tree {
		if strings.HasPrefix(line, "4") { // S_IFDIR, in octal
			line = time.ReplaceAllString(line, "")
		}
		if p != "" {
			out[p] = line
		}
	}
	return out
}

// writeLayout makes an OCI image layout of an image with these layers (image-spec, "Image Layout").
func writeLayout(t *testing.T, dir string, s *Store, ids []digest.Digest) {
	t.Helper()
	write := func(name string, content []byte) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	blob := func(mediaType string, content []byte) ocispec.Descriptor {
		d := digest.FromBytes(content)
		write(filepath.Join(dir, "blobs", "sha256", d.Encoded()), content)
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}}
	for _, id := range ids {
		tar, err := s.Tar(id)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tar)
		if err = errors.Join(err, tar.Close()); err != nil {
			t.Fatal(err)
		}
		m.Layers = append(m.Layers, blob(ocispec.MediaTypeImageLayer, b))
	}
	config := ocispec.Image{Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: ids}}
	m.Config = blob(ocispec.MediaTypeImageConfig, encode(config))
	desc := blob(ocispec.MediaTypeImageManifest, encode(m))
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: "latest"}
	write(filepath.Join(dir, "oci-layout"), encode(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}))
	write(filepath.Join(dir, "index.json"), encode(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{desc}}))
}

// withoutNames leaves out which names are the same file.
func withoutNames(tree map[string]string) map[string]string {
	out := map[string]string{}
	for p, line := range tree {
		out[p], _, _ = strings.Cut(line, " is [")
	}
	return out
}

// Every way in which a kernel takes lower layers gives the same.
func TestOverlayWays(t *testing.T) {
	for via, since := range map[string][2]int{viaDescriptor: {6, 13}, viaAppend: {6, 8}, viaList: {}} {
		t.Run(via, func(t *testing.T) {
			needsLinux(t, since[0], since[1])
			s := newStore(t, Auto)
			s.overlay.via = via
			st := stack(t, s, put(t, s, baseItems...), put(t, s, item{name: "etc/"}, item{name: "etc/.wh.old"}))
			view := mount(t, st, nil, MountOptions{})
			missing(t, view+"/etc/old")
			if err := os.WriteFile(view+"/x", nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Error(err)
			}
			u := upperOf(t, s)
			rw := mount(t, st, u, MountOptions{Volatile: true})
			if err := os.WriteFile(rw+"/etc/conf", []byte("new"), 0); err != nil {
				t.Error(err)
			}
			if got := content(t, u.upper()+"/etc/conf"); got != "new" {
				t.Error(got)
			}
			if info, err := s.Info(t.Context()); err != nil || info.Overlay != via {
				t.Errorf("%+v %v", info, err)
			}
		})
	}
}

// Stacks deeper than overlayfs takes have their lowest layers merged, more than once if need be.
func TestDeepStack(t *testing.T) {
	s := newStore(t, Auto)
	s.overlay.most = spare + 4
	var ids []digest.Digest
	var layers [][]item
	add := func(items ...item) {
		ids, layers = append(ids, put(t, s, items...)), append(layers, items)
	}
	add(baseItems...)
	add(item{name: "tmp/without/parent", data: "x"}, item{name: "bin/sh", hard: "bin/tool"})
	add(item{name: "etc/"}, item{name: "etc/.wh.old"}, item{name: "usr/"}, item{name: "usr/share/"}, item{name: "usr/share/.wh..wh..opq"})
	for i := range 9 {
		add(item{name: fmt.Sprintf("layer%d", i), data: "x"}, item{name: "etc/"}, item{name: "etc/conf", data: fmt.Sprint(i)}, item{name: fmt.Sprintf(".wh.layer%d", i-2)})
	}
	want := testroot.Dir(t)
	unpackInOrder(t, want, layers)
	st, err := s.Stack(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	if len(st.lowers) > 5 {
		t.Errorf("%d lower layers", len(st.lowers))
	}
	view := mountFile(t, st, nil, MountOptions{})
	sameTree(t, "merged", treeOf(t, fdPath(view)), treeOf(t, want))
	view.Close()
	if err := s.Remove(t.Context(), ids[0]); !errdefs.IsConflict(err) {
		t.Errorf("a layer of a stack was removed: %v", err)
	}
	st.Release()
	if err := s.Remove(t.Context(), ids...); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(s.derived); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestLinkToNothing(t *testing.T) {
	s := newStore(t, Auto)
	base := put(t, s, baseItems...)
	for name, items := range map[string][]item{
		"missing":       {{name: "a", hard: "no/such"}},
		"a directory":   {{name: "a", hard: "etc/dir.d"}},
		"deleted":       {{name: ".wh..wh..opq"}, {name: "a", hard: "bin/tool"}},
		"below a file":  {{name: "a", hard: "bin/tool/x"}},
		"below a link":  {{name: "a", hard: "lib/libc"}},
		"deleted below": {{name: "a", hard: "etc/old"}},
	} {
		ids := []digest.Digest{base}
		if name == "deleted below" {
			ids = append(ids, put(t, s, item{name: "etc/"}, item{name: "etc/.wh.old"}))
		}
		ids = append(ids, put(t, s, items...))
		st, err := s.Stack(t.Context(), ids)
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v %v", name, st, err)
		}
	}
	if _, pinned := s.counts(); pinned != 0 {
		t.Errorf("%d pinned", pinned)
	}
}

func TestStackErrors(t *testing.T) {
	s := newStore(t, Auto)
	base := put(t, s, baseItems...)
	for name, c := range map[string]struct {
		id digest.Digest
		is func(error) bool
	}{
		"missing": {digest.FromString("x"), errdefs.IsNotFound},
		"bad":     {"x", errdefs.IsInvalidArgument},
	} {
		if st, err := s.Stack(t.Context(), []digest.Digest{base, c.id}); !c.is(err) {
			t.Errorf("%s: %v %v", name, st, err)
		}
	}
	st := stack(t, s, base)
	if err := s.Remove(t.Context(), base); !errdefs.IsConflict(err) {
		t.Errorf("removed in use: %v", err)
	}
	if err := s.Mend(t.Context(), base); err != nil {
		t.Errorf("whole and in use: %v", err)
	}
	on := st.On()
	st.Release()
	st.Release()
	if err := s.Remove(t.Context(), base); !errdefs.IsConflict(err) {
		t.Errorf("removed while a stack made by On has it: %v", err)
	}
	on.Release()
	if _, pinned := s.counts(); pinned != 0 {
		t.Errorf("%d pinned", pinned)
	}
}

func TestChainID(t *testing.T) {
	a, b, c := digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
	ab := digest.FromString(a.String() + " " + b.String())
	for i, got := range []digest.Digest{ChainID(nil), ChainID([]digest.Digest{a}), ChainID([]digest.Digest{a, b}), ChainID([]digest.Digest{a, b, c})} {
		if want := []digest.Digest{"", a, ab, digest.FromString(ab.String() + " " + c.String())}[i]; got != want {
			t.Errorf("of %d layers: %s, want %s", i, got, want)
		}
	}
}
