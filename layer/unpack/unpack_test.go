package unpack

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-engine/berth/internal/testroot"
	"github.com/berth-engine/berth/layer/erofs"
)

// That the trees are right is the storage contract's business (package layer), which compares all forms.
// Here: what is damaged, and what package layer's stories lack.

// layerFile makes a layer file with every kind of inode and layout.
func layerFile(t testing.TB) (*os.File, erofs.Result) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, data string) {
		t.Helper()
		h.Format, h.Mode, h.Size = tar.FormatPAX, 0o755, int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60 { // two blocks of names, the last one inline
		add(tar.Header{Typeflag: tar.TypeReg, Name: "many/" + strings.Repeat("n", i+1), Uid: 70_000 * (i % 2)}, strings.Repeat("x", i))
	}
	shared := map[string]string{"SCHILY.xattr.user.shared": strings.Repeat("s", 300)}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "a", PAXRecords: shared}, "a")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "b", PAXRecords: shared}, "b")
	add(tar.Header{Typeflag: tar.TypeLink, Name: "c", Linkname: "a"}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "short", Linkname: "a"}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "long", Linkname: strings.Repeat("l/", 1000)}, "")
	add(tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"}, "")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "gone/.wh.x"}, "")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "hides/.wh..wh..opq"}, "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(testroot.Dir(t), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	res, err := erofs.Write(t.Context(), f, &b, erofs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return f, res
}

// into unpacks f into a new directory, whose path it returns.
func into(t testing.TB, f *os.File) (string, error) {
	t.Helper()
	dir := filepath.Join(testroot.Dir(t), "tree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return dir, Into(t.Context(), root, f)
}

func TestInto(t *testing.T) {
	testroot.Require(t)
	f, res := layerFile(t)
	dir, err := into(t, f)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	if err := filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { count++; return nil }); err != nil {
		t.Fatal(err)
	}
	if want := res.Inodes + 1; count != want { // one of them has two names
		t.Errorf("%d names, want %d", count, want)
	}
}

// Whatever is damaged in the metadata: there is an end, no panic, and nothing outside of the directory.
func TestDamaged(t *testing.T) {
	testroot.Require(t)
	f, res := layerFile(t)
	sound, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	damaged, err := os.Create(filepath.Join(testroot.Dir(t), "damaged"))
	if err != nil {
		t.Fatal(err)
	}
	defer damaged.Close()
	failed := 0
	try := func(offset int, b byte) {
		t.Helper()
		bad := bytes.Clone(sound)
		bad[offset] ^= b
		if _, err := damaged.WriteAt(bad, 0); err != nil {
			t.Fatal(err)
		}
		dir, err := into(t, damaged)
		if err != nil {
			failed++
		}
		if beside, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(beside) != 1 {
			t.Errorf("byte %d: beside the tree: %v %v", offset, beside, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
	for offset := superAt; offset < superAt+superSize; offset += 4 {
		try(offset, 0xff)
	}
	for i, offset := 0, 4096+int(res.TarSize); offset < len(sound); i, offset = i+1, offset+37 {
		try(offset, []byte{0xff, 0x01, 0x2f, 0x80}[i%4])
	}
	if failed == 0 {
		t.Error("nothing was noticed at all")
	}
}
