package tree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berth-engine/berth/build/session"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func archive(t *testing.T, hs ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hs {
		data := h.Uname // the test's place for a content
		h.Uname = ""
		h.Size = int64(len(data))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func reg(name, data string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: data, ModTime: time.Unix(1e9, 5e8)}
}

// dump shows a tree as "path → type:content".
func dump(t *testing.T, tr *Tree) map[string]string {
	t.Helper()
	out := map[string]string{}
	for i, e := range tr.Entries {
		switch {
		case e.IsDir():
			out[e.Path] = "dir"
		case e.Link != "":
			out[e.Path] = "-> " + e.Link
		case e.Mode&session.ModeType == session.ModeReg:
			c, err := tr.Content(i)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(c.Reader())
			if err != nil {
				t.Fatal(err)
			}
			out[e.Path] = string(b)
			if e.Hardlink != "" {
				out[e.Path] = "= " + e.Hardlink
			}
		default:
			out[e.Path] = "special"
		}
	}
	return out
}

func TestFromTar(t *testing.T) {
	s := open(t, t.TempDir())
	tr, err := s.FromTar(context.Background(), archive(t,
		reg("./deep/er/file", "one"), // without parents
		reg("/absolute", "two"),
		reg("twice", "old"), reg("twice", "new"),
		tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o700},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "d/link", Linkname: "/etc/passwd"},
		tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "twice"},
		tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"deep": "dir", "deep/er": "dir", "deep/er/file": "one", "absolute": "two", "twice": "= a", "a": "new",
		"d": "dir", "d/link": "-> /etc/passwd", "fifo": "special",
	}
	if got := dump(t, tr); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}

	// Through a layer's tar and back it is the same.
	var b bytes.Buffer
	if err := tr.WriteTar(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	again, err := s.FromTar(context.Background(), &b)
	if err != nil {
		t.Fatal(err)
	}
	if got := dump(t, again); !maps.Equal(got, want) {
		t.Errorf("again: %v", got)
	}
}

func TestFromTarRefusals(t *testing.T) {
	for name, a := range map[string]*bytes.Buffer{
		"dot dot":         archive(t, reg("../x", "")),
		"dot dot inside":  archive(t, reg("a/../../x", "")),
		"through a link":  archive(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/"}, reg("l/x", "")),
		"below a file":    archive(t, reg("f", ""), reg("f/x", "")),
		"link to nothing": archive(t, tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "x"}),
		"link outside":    archive(t, tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "../../etc/passwd"}),
		"long name":       archive(t, reg(strings.Repeat("x", 300), "")),
		"torn":            bytes.NewBuffer(archive(t, reg("x", strings.Repeat("x", 2000))).Bytes()[:1024]),
		"no tar":          bytes.NewBufferString(strings.Repeat("no tar", 200)),
		"dir to file":     archive(t, reg("d/x", ""), reg("d", "")),
		"device number":   archive(t, tar.Header{Typeflag: tar.TypeChar, Name: "x", Devmajor: 5000, Devminor: 1}),
	} {
		dir := t.TempDir()
		_, err := open(t, dir).FromTar(context.Background(), a)
		if !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, packName+"*")); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func put(t *testing.T, s *Store, data string) Sum {
	t.Helper()
	w, err := s.Writer()
	if err != nil {
		t.Fatal(err)
	}
	sum, _, err := w.Put([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestStoreSurvives(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	sum := put(t, s, "content")
	half, err := s.Writer()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := half.Put([]byte("half")); err != nil {
		t.Fatal(err)
	}
	// As if the engine had been killed: no Close, a pack without an index.
	again := open(t, dir)
	c, ok := again.Get(sum)
	if !ok {
		t.Fatal("lost what was committed")
	}
	if b, _ := io.ReadAll(c.Reader()); string(b) != "content" {
		t.Errorf("%q", b)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, packName+"*")); len(left) != 1 {
		t.Errorf("half a pack is still there: %v", left)
	}
	if put(t, again, "content") != sum {
		t.Error("another sum")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, packName+"*")); len(left) != 1 {
		t.Errorf("the same content was kept twice: %v", left)
	}

	// As if the machine had lost power.
	if err := os.WriteFile(filepath.Join(dir, bootFile), []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := open(t, dir).Get(sum); ok {
		t.Error("something unsynced was trusted after an unclean end")
	}
}

func TestCleanEndIsTrusted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	sum := put(t, s, "content")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, bootFile)); string(b) != "clean" {
		t.Fatalf("%q", b)
	}
	if _, ok := open(t, dir).Get(sum); !ok {
		t.Error("lost after a clean end")
	}
}

func TestDamagedIndex(t *testing.T) {
	dir := t.TempDir()
	sum := put(t, open(t, dir), "content")
	index, _ := filepath.Glob(filepath.Join(dir, indexName+"*"))
	b, _ := os.ReadFile(index[0])
	b[10] ^= 1
	if err := os.WriteFile(index[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := open(t, dir).Get(sum); ok {
		t.Error("a damaged index was trusted")
	}
}

func TestPrune(t *testing.T) {
	s := open(t, t.TempDir())
	sum := put(t, s, "content")
	tr := s.New([]Entry{{Entry: session.Entry{Path: "f", Mode: session.ModeReg}}}, nil, nil)
	if !tr.Known(0, sum) {
		t.Fatal("not known")
	}
	if n, err := s.Prune(time.Now().Add(time.Hour), 0); err != nil || n != 7 {
		t.Fatal(n, err)
	}
	if _, ok := s.Get(sum); ok {
		t.Error("still there")
	}
	if got := dump(t, tr)["f"]; got != "content" {
		t.Errorf("a tree that was in use reads %q", got)
	}
}

func TestStreamSizes(t *testing.T) {
	w, err := open(t, t.TempDir()).Writer()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	st := w.Stream(3)
	if err := st.Write([]byte("four")); !errors.Is(err, ErrSize) {
		t.Error(err)
	}
	if _, _, err := st.Finish(); !errors.Is(err, ErrSize) {
		t.Error(err)
	}
}

func FuzzFromTar(f *testing.F) {
	f.Add(archive(&testing.T{}, reg("a/b", "x"), tar.Header{Typeflag: tar.TypeLink, Name: "c", Linkname: "a/b"}).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		s := open(t, t.TempDir())
		tr, err := s.FromTar(context.Background(), bytes.NewReader(b))
		if err != nil {
			return
		}
		var list []byte
		prev := &session.Entry{}
		for i := range tr.Entries {
			list = session.AppendEntry(list, &tr.Entries[i].Entry, prev)
			prev = &tr.Entries[i].Entry
		}
		if _, err := session.DecodeList(list); err != nil {
			t.Fatalf("a tree that is no list: %v", err)
		}
	})
}

func TestSubsets(t *testing.T) {
	s := open(t, t.TempDir())
	tr, err := s.FromTar(context.Background(), archive(t,
		reg("a/first", "shared"), tar.Header{Typeflag: tar.TypeLink, Name: "b/second", Linkname: "a/first"},
		tar.Header{Typeflag: tar.TypeLink, Name: "c/third", Linkname: "a/first"}, reg("keep/deep/x.go", "x"), reg("keep/y.md", "y"),
	))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		patterns []string
		want     map[string]string
	}{
		{[]string{"a", "keep"}, map[string]string{"b": "dir", "b/second": "shared", "c": "dir", "c/third": "= b/second"}},
		{[]string{"*", "!keep/deep"}, map[string]string{"keep": "dir", "keep/deep": "dir", "keep/deep/x.go": "x"}},
		{[]string{"**/*.go", "?"}, map[string]string{"keep": "dir", "keep/deep": "dir", "keep/y.md": "y"}},
	} {
		got, err := tr.Exclude(c.patterns)
		if err != nil || !maps.Equal(dump(t, got), c.want) {
			t.Errorf("%q: %v %v", c.patterns, dump(t, got), err)
		}
	}
}

func TestResolve(t *testing.T) {
	link := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	tr, err := open(t, t.TempDir()).FromTar(context.Background(), archive(t,
		reg("d/e/f", "x"), link("abs", "/d/e"), link("rel", "d/../d/e/f"), link("out", "../../../../d"), link("loop", "loop2"), link("loop2", "loop"), link("d/up", ".."), link("dangling", "no"),
	))
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		"d/e/f": "d/e/f", "/d//e/./f": "d/e/f", "abs/f": "d/e/f", "rel": "d/e/f", "out/e/f": "d/e/f", "d/up/d/up/rel": "d/e/f", "../../d": "d",
		"": ".", "/": ".", "d/..": ".", "no": "ENOENT", "dangling": "ENOENT", "loop": "ELOOP", "d/e/f/g": "ENOTDIR",
	} {
		i, err := tr.Resolve(p, true)
		got := "."
		switch {
		case errors.Is(err, os.ErrNotExist):
			got = "ENOENT"
		case errors.Is(err, syscall.ELOOP):
			got = "ELOOP"
		case errors.Is(err, syscall.ENOTDIR):
			got = "ENOTDIR"
		case i != Root:
			got = tr.Entries[i].Path
		}
		if got != want {
			t.Errorf("%q: %s (%v), want %s", p, got, err, want)
		}
	}
	if i, err := tr.Resolve("rel", false); err != nil || tr.Entries[i].Path != "rel" {
		t.Error(i, err)
	}
}
