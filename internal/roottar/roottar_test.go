package roottar

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-engine/berth/internal/testroot"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func opened(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestRoundTrip(t *testing.T) {
	testroot.Require(t)
	from, to := testroot.Dir(t), testroot.Dir(t)
	src := filepath.Join(from, "tree")
	at := func(name string) string { return filepath.Join(src, name) }
	old := time.Unix(1000000000, 0)
	for _, err := range []error{
		os.MkdirAll(at("d/empty"), 0o750),
		os.WriteFile(at("d/file"), []byte("content"), 0o640),
		os.Chown(at("d/file"), 12, 34),
		os.Link(at("d/file"), at("d/hard")),
		os.Symlink("/etc/passwd", at("link")),
		unix.Mkfifo(at("fifo"), 0o600),
		unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Setxattr(at("d/file"), "user.note", []byte("a\x00b"), 0),
		os.Chmod(at("d/file"), 0o4755),
		os.Chtimes(at("d/file"), old, old),
		os.Chtimes(at("d"), old, old),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := Pack(t.Context(), opened(t, from), "tree", &b, PackOptions{Name: "copy"}); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(t.Context(), opened(t, to), "/", &b, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "d", "d/empty", "d/file", "d/hard", "link", "fifo", "null"} {
		var want, got unix.Stat_t
		if err := unix.Lstat(at(name), &want); err != nil {
			t.Fatal(err)
		}
		if err := unix.Lstat(filepath.Join(to, "copy", name), &got); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Mode != want.Mode || got.Uid != want.Uid || got.Gid != want.Gid || got.Rdev != want.Rdev || got.Nlink != want.Nlink ||
			name != "link" && got.Mtim.Sec != want.Mtim.Sec {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(filepath.Join(to, "copy/d/hard"), "user.note", value); string(value[:max(n, 0)]) != "a\x00b" {
		t.Errorf("xattr %q %v", value[:max(n, 0)], err)
	}
}

func entries(t *testing.T, hs ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hs {
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = 4
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("evil")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestAttributes: of what a tar says is a file's attributes, only that is set which isn't the host's.
func TestAttributes(t *testing.T) {
	testroot.Require(t)
	dir := testroot.Dir(t)
	capability := "\x01\x00\x00\x02" + strings.Repeat("\x00", 16)
	attrs := func(capability string) map[string]string {
		return map[string]string{
			paxXattr + "security.capability": capability, paxXattr + "security.ima": "\x03hash", paxXattr + "security.selinux": "label",
			paxXattr + "security.evm": "\x03hash", paxXattr + "security.other": "1", paxXattr + "trusted.note": "1",
			paxXattr + "trusted.overlay.opaque": "y", paxXattr + "user.overlay.opaque": "y", paxXattr + "user.note": "1",
		}
	}
	in := entries(t, tar.Header{Name: "good", Typeflag: tar.TypeReg, PAXRecords: attrs(capability)},
		tar.Header{Name: "malformed", Typeflag: tar.TypeReg, PAXRecords: attrs(capability[:7])})
	if err := Unpack(t.Context(), opened(t, dir), "/", in, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"good": "security.capability user.note", "malformed": "user.note"} {
		list := make([]byte, 64<<10)
		n, err := unix.Listxattr(filepath.Join(dir, name), list)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 })
		label := make([]byte, 1024)
		if n, err := unix.Getxattr(filepath.Join(dir, name), "security.selinux", label); err == nil && string(label[:n]) != "label" {
			got = slices.DeleteFunc(got, func(s string) bool { return s == "security.selinux" }) // the host's own
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// invalidOnly: the tar is wrong, and nobody takes it for a destination that is missing or no directory.
func invalidOnly(err error) bool {
	return errdefs.IsInvalidArgument(err) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR)
}

// TestHostile: whatever a tar says, nothing beside the root changes.
func TestHostile(t *testing.T) {
	testroot.Require(t)
	for name, c := range map[string]struct {
		in   []tar.Header
		kind func(error) bool // nil: unpacked, inside
	}{
		"dots":                    {[]tar.Header{{Name: "../secret", Typeflag: tar.TypeReg}}, errdefs.IsInvalidArgument},
		"dots in between":         {[]tar.Header{{Name: "a/../../secret", Typeflag: tar.TypeReg}}, errdefs.IsInvalidArgument},
		"absolute":                {[]tar.Header{{Name: "/secret", Typeflag: tar.TypeReg}}, nil},
		"through a link":          {[]tar.Header{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "l/secret", Typeflag: tar.TypeReg}}, nil},
		"over a link":             {[]tar.Header{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../secret"}, {Name: "l", Typeflag: tar.TypeReg}}, nil},
		"hard link out":           {[]tar.Header{{Name: "l", Typeflag: tar.TypeLink, Linkname: "../secret"}}, errdefs.IsInvalidArgument},
		"hard link by abs":        {[]tar.Header{{Name: "l", Typeflag: tar.TypeLink, Linkname: "/secret"}}, errdefs.IsInvalidArgument},
		"hard link to nothing":    {[]tar.Header{{Name: "l", Typeflag: tar.TypeLink, Linkname: "nothing"}}, invalidOnly},
		"below a file":            {[]tar.Header{{Name: "f", Typeflag: tar.TypeReg}, {Name: "f/x", Typeflag: tar.TypeReg}}, invalidOnly},
		"below a link to nothing": {[]tar.Header{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/nothing"}, {Name: "l/x", Typeflag: tar.TypeReg}}, invalidOnly},
		"root as a file":          {[]tar.Header{{Name: ".", Typeflag: tar.TypeReg}}, errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			dir := testroot.Dir(t)
			secret := filepath.Join(dir, "secret")
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "root"), 0o755), os.WriteFile(secret, []byte("good"), 0o600)); err != nil {
				t.Fatal(err)
			}
			err := Unpack(t.Context(), opened(t, filepath.Join(dir, "root")), "/", entries(t, c.in...), UnpackOptions{})
			if c.kind == nil && err != nil || c.kind != nil && !c.kind(err) {
				t.Error(err)
			}
			info, err := os.Stat(secret)
			if b, _ := os.ReadFile(secret); string(b) != "good" || err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file beside the root is now %q, %v %v", b, info, err)
			}
		})
	}
}

func TestReplace(t *testing.T) {
	testroot.Require(t)
	dir := testroot.Dir(t)
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "d/sub"), 0o755), os.WriteFile(filepath.Join(dir, "f"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	root := opened(t, dir)
	in := []tar.Header{{Name: "d", Typeflag: tar.TypeReg}, {Name: "f", Typeflag: tar.TypeDir}}
	for i := range in {
		err := Unpack(t.Context(), root, "/", entries(t, in[i]), UnpackOptions{NoOverwriteDirNonDir: true})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "cannot overwrite") {
			t.Error(err)
		}
	}
	if err := Unpack(t.Context(), root, "/", entries(t, in...), UnpackOptions{Owner: &Owner{7, 8}}); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "d"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != 7 {
		t.Errorf("%+v %v", st, err)
	}
	if err := Unpack(t.Context(), root, "none", entries(t), UnpackOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestLimits: a tar can't make the engine, or the disk, hold any number of names.
func TestLimits(t *testing.T) {
	testroot.Require(t)
	var many []tar.Header
	for i := range 20 {
		many = append(many, tar.Header{Name: fmt.Sprintf("directory-%02d/", i), Typeflag: tar.TypeDir, Mode: 0o755})
	}
	deep := tar.Header{Name: strings.Repeat("d/", 19) + "file", Typeflag: tar.TypeReg}
	const each = int64(64 + len("directory-00"))
	for name, c := range map[string]struct {
		headers []tar.Header
		names   int
		held    int64
		refused string
	}{
		"just right":           {many, 20, 20 * each, ""},
		"one name too many":    {many, 19, maxHeld, "more than 19 names"},
		"directories":          {many, maxNames, 20*each - 1, "too many directories"},
		"implied":              {[]tar.Header{deep}, 20, maxHeld, ""},
		"one implied too many": {[]tar.Header{deep}, 19, maxHeld, "more than 19 names"},
	} {
		u := newUnpacker(opened(t, t.TempDir()), UnpackOptions{})
		u.maxNames, u.maxHeld = c.names, c.held
		err := u.all(t.Context(), tar.NewReader(entries(t, c.headers...)))
		if c.refused == "" && err != nil || c.refused != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		root := opened(t, t.TempDir())
		_ = Unpack(t.Context(), root, "/", bytes.NewReader(b), UnpackOptions{})
	})
}
