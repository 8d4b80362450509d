package erofs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/testroot"
)

// sourceTree makes a directory with everything that a layer can hold, for tar to read.
func sourceTree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(testroot.Dir(t), "src")
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := func(name string) string { return filepath.Join(root, name) }
	for _, d := range []string{"etc/deep/er/still", "usr/bin", "tmp", "many", "empty"} {
		try(os.MkdirAll(path(d), 0o755))
	}
	for i := range 300 {
		try(os.WriteFile(path(fmt.Sprintf("many/file-%d-%s", i, strings.Repeat("n", i%100))), bytes.Repeat([]byte{byte(i)}, i*7), 0o644))
	}
	for i := range 3000 {
		try(os.WriteFile(path(fmt.Sprintf("etc/deep/%04d", i)), nil, 0o600))
	}
	try(os.WriteFile(path("etc/passwd"), []byte("root:x:0:0::/:/bin/sh\n"), 0o644))
	try(os.Link(path("etc/passwd"), path("usr/passwd")))
	try(os.Link(path("etc/passwd"), path("etc/deep/passwd")))
	try(os.Symlink("../etc/passwd", path("usr/link")))
	try(os.Symlink(strings.Repeat("long/", 300), path("usr/longlink")))
	try(os.Link(path("usr/link"), path("usr/link2")))
	try(unix.Mknod(path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	try(unix.Mknod(path("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	try(unix.Mkfifo(path("pipe"), 0o622))
	try(os.WriteFile(path("usr/bin/ping"), bytes.Repeat([]byte("elf"), 100_000), 0o755))
	try(os.Chown(path("usr/bin/ping"), 1000, 123456))
	try(os.Chmod(path("tmp"), 0o777|os.ModeSticky))
	try(os.WriteFile(path("usr/bin/su"), []byte("su"), 0o755))
	try(os.Chmod(path("usr/bin/su"), 0o755|os.ModeSetuid))
	try(unix.Setxattr(path("usr/bin/ping"), "security.capability", []byte(capV2), 0))
	try(unix.Setxattr(path("usr/bin/ping"), "user.note", []byte("what\x00ever"), 0))
	try(unix.Setxattr(path("empty"), "user.note", []byte("what\x00ever"), 0))
	try(unix.Setxattr(path("usr/bin/su"), "trusted.note", bytes.Repeat([]byte("v"), 700), 0))
	when := unix.Timeval{Sec: 1_234_567_890, Usec: 123456}
	try(unix.Lutimes(path("usr/link"), []unix.Timeval{when, when}))
	try(unix.Utimes(path("etc/passwd"), []unix.Timeval{{Sec: 86400}, {Sec: 86400}}))
	try(unix.Utimes(path("empty"), []unix.Timeval{{Sec: -86400}, {Sec: -86400}}))
	return root
}

var paxFormat = []string{"--format=pax", "--xattrs", "--xattrs-include=*"}

func gnuTar(t *testing.T, root string, args ...string) []byte {
	t.Helper()
	args = append(args, "--numeric-owner", "--sort=name", "-C", root, "-cf", "-", ".")
	tar, err := exec.Command("tar", args...).Output()
	if err != nil {
		t.Fatalf("tar: %v", err)
	}
	return tar
}

// withoutRoot leaves out the root, of which only the time is taken from the tar.
func withoutRoot(list []file) []file {
	if len(list) > 0 && list[0].Path == "." {
		return list[1:]
	}
	return list
}

// A mounted layer file is what GNU tar unpacks, entry by entry, in each format that it writes.
func TestLikeGNUTar(t *testing.T) {
	testroot.Require(t)
	src := sourceTree(t)
	for _, format := range [][]string{paxFormat, {"--format=gnu"}} {
		t.Run(format[0], func(t *testing.T) {
			tar := gnuTar(t, src, format...)
			unpacked := testroot.Dir(t)
			cmd := exec.Command("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-p", "-C", unpacked, "-xf", "-")
			cmd.Stdin = bytes.NewReader(tar)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("tar: %v\n%s", err, out)
			}
			f, res := writeLayer(t, tar, Options{})
			check(t, f, res, tar)
			mounted := listDir(t, mount(t, f))
			compare(t, withoutRoot(listDir(t, unpacked)), withoutRoot(mounted))
			compare(t, listImage(t, f), mounted)
		})
	}
}

// A mounted layer file is what umoci makes of an image with that layer.
func TestLikeUmoci(t *testing.T) {
	testroot.Require(t)
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Skip("needs umoci (Debian's package of that name)")
	}
	tar := gnuTar(t, sourceTree(t), paxFormat...)
	dir := testroot.Dir(t)
	layout := filepath.Join(dir, "image")
	writeLayout(t, layout, tar)
	if out, err := exec.Command("umoci", "unpack", "--image", layout+":latest", filepath.Join(dir, "bundle")).CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v\n%s", err, out)
	}
	f, _ := writeLayer(t, tar, Options{})
	compare(t, withoutRoot(listDir(t, filepath.Join(dir, "bundle", "rootfs"))), withoutRoot(listDir(t, mount(t, f))))
}

// writeLayout makes an OCI image layout of an image with one layer (image-spec, "Image Layout").
func writeLayout(t *testing.T, dir string, layer []byte) {
	t.Helper()
	type object = map[string]any
	put := func(mediaType string, content []byte) object {
		dgst := digest.FromBytes(content)
		path := filepath.Join(dir, "blobs", "sha256", dgst.Encoded())
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return object{"mediaType": mediaType, "digest": dgst, "size": len(content)}
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	l := put("application/vnd.oci.image.layer.v1.tar", layer)
	c := put("application/vnd.oci.image.config.v1+json", encode(object{
		"architecture": "amd64", "os": "linux", "config": object{},
		"rootfs": object{"type": "layers", "diff_ids": []any{l["digest"]}},
	}))
	m := put("application/vnd.oci.image.manifest.v1+json", encode(object{"schemaVersion": 2, "config": c, "layers": []any{l}}))
	m["annotations"] = object{"org.opencontainers.image.ref.name": "latest"}
	for name, content := range map[string]any{"oci-layout": object{"imageLayoutVersion": "1.0.0"}, "index.json": object{"schemaVersion": 2, "manifests": []any{m}}} {
		if err := os.WriteFile(filepath.Join(dir, name), encode(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The same tar gives the same file, however it comes; what a flipped bit changes is found.
func TestDeterministicAndVerified(t *testing.T) {
	testroot.Require(t)
	tar := gnuTar(t, sourceTree(t), paxFormat...)
	f, res := writeLayer(t, tar, Options{})
	want, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	again, err := os.Create(filepath.Join(testroot.Dir(t), "again"))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	res2, err := Write(t.Context(), again, struct{ io.Reader }{oddReader{bytes.NewReader(tar)}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(again.Name()); err != nil || !bytes.Equal(got, want) || res2.MetadataDigest != res.MetadataDigest {
		t.Fatalf("another file of the same tar: %v", err)
	}

	behind := headerSize + res.TarSize
	for _, at := range []int64{0, ownTarSizeAt, superAt + 40, 3000, behind, behind + 1000, res.Size - 1} {
		flip(t, again, at)
		if err := VerifyMetadata(again, res.MetadataDigest); err == nil {
			t.Errorf("a flipped bit at %d was not noticed", at)
		}
		flip(t, again, at)
		if err := VerifyMetadata(again, res.MetadataDigest); err != nil {
			t.Errorf("flipped back at %d: %v", at, err)
		}
	}

	flip(t, again, headerSize+res.TarSize/2)
	if err := VerifyMetadata(again, res.MetadataDigest); err != nil {
		t.Error(err)
	}
	if err := VerifyTar(t.Context(), again, res.DiffID); err == nil {
		t.Error("a flipped bit in the tar was not noticed")
	}
	if err := again.Truncate(res.Size - 1); err != nil {
		t.Fatal(err)
	}
	if err := VerifyMetadata(again, res.MetadataDigest); err == nil {
		t.Error("a missing byte was not noticed")
	}
	if err := again.Truncate(behind - 1); err != nil {
		t.Fatal(err)
	}
	if VerifyMetadata(again, res.MetadataDigest) == nil || VerifyTar(t.Context(), again, res.DiffID) == nil {
		t.Error("a tar that is cut off was not noticed")
	}
}

func flip(t *testing.T, f *os.File, at int64) {
	t.Helper()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// oddReader reads in pieces of odd sizes.
type oddReader struct{ r io.Reader }

func (o oddReader) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 77_777)]) }
