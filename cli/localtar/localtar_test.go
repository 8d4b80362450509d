package localtar

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	when := time.Unix(1_700_000_000, 0)
	for _, dir := range []string{src, src + "/d", src + "/ro"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(src, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(src, name), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(src, name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	write("f", "hello", 0o640)
	write("d/setuid", "x", os.ModeSetuid|0o755)
	write("ro/in", "y", 0o400)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink("../f", src+"/d/link"))
	must(os.Symlink("/nowhere", src+"/dangling"))
	must(os.Link(src+"/f", src+"/d/hard"))
	must(os.Chmod(src+"/ro", 0o555))
	t.Cleanup(func() { os.Chmod(src+"/ro", 0o755) })

	var b bytes.Buffer
	must(Write(&b, src, "src"))
	dst := t.TempDir()
	n, err := Extract(&b, dst, "src", "other")
	must(err)
	t.Cleanup(func() { os.Chmod(dst+"/other/ro", 0o755) })
	if n != int64(len("hello")+1+1) {
		t.Errorf("%d bytes", n)
	}
	content, err := os.ReadFile(dst + "/other/d/link")
	if err != nil || string(content) != "hello" {
		t.Errorf("through the link: %q, %v", content, err)
	}
	a, _ := os.Stat(dst + "/other/f")
	c, _ := os.Stat(dst + "/other/d/hard")
	if !os.SameFile(a, c) {
		t.Error("the hard link became a copy")
	}
	if a.Mode() != 0o640 || !a.ModTime().Equal(when) {
		t.Errorf("%v %v", a.Mode(), a.ModTime())
	}
	for name, mode := range map[string]os.FileMode{"d/setuid": os.ModeSetuid | 0o755, "ro": os.ModeDir | 0o555, "ro/in": 0o400} {
		if info, err := os.Stat(dst + "/other/" + name); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func archive(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := "evil"
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		h.Mode = 0o755
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestConfined: nothing lands outside, and nothing outside is changed, whatever the archive says.
func TestConfined(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	link := func(name, target string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
	}
	for name, headers := range map[string][]tar.Header{
		"dots":                  {file("../../../outside/f")},
		"absolute":              {file("/outside/f")},
		"through a link":        {link("a", "../../outside"), file("a/f")},
		"through an absolute":   {link("a", "OUTSIDE"), file("a/f")},
		"onto a link":           {link("f", "OUTSIDE/f"), file("f")},
		"hard link":             {{Typeflag: tar.TypeLink, Name: "h", Linkname: "../../outside/kept"}, file("h")},
		"hard link by symlink":  {link("a", "OUTSIDE"), {Typeflag: tar.TypeLink, Name: "h", Linkname: "a/kept"}, file("h")},
		"directory over a link": {link("a", "OUTSIDE"), {Typeflag: tar.TypeDir, Name: "a"}, file("a/f")},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			outside, in := filepath.Join(top, "outside"), filepath.Join(top, "x", "in")
			for _, dir := range []string{outside, in} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(outside+"/kept", []byte("kept"), 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range headers {
				headers[i].Linkname = strings.ReplaceAll(headers[i].Linkname, "OUTSIDE", outside)
			}
			_, err := Extract(archive(t, headers...), in, "", "")
			t.Log(err)
			entries, _ := os.ReadDir(outside)
			kept, _ := os.ReadFile(outside + "/kept")
			if len(entries) != 1 || string(kept) != "kept" {
				t.Errorf("outside was changed: %v, %q", entries, kept)
			}
			if info, err := os.Stat(outside + "/kept"); err != nil || info.Mode() != 0o600 {
				t.Error(info, err)
			}
		})
	}
}

func TestNoReplacing(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Extract(archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "d"}), dir, "", ""); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if _, err := Extract(archive(t, tar.Header{Typeflag: tar.TypeDir, Name: "f"}), dir, "", ""); err == nil {
		t.Error("a file was replaced by a directory")
	}
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte("not a tar"))
	f.Fuzz(func(t *testing.T, in []byte) {
		top := t.TempDir()
		if err := os.Mkdir(top+"/in", 0o755); err != nil {
			t.Fatal(err)
		}
		_, _ = Extract(bytes.NewReader(in), top+"/in", "a", "b") // most are refused
		entries, err := os.ReadDir(top)
		if err != nil || len(entries) != 1 {
			t.Errorf("outside: %v, %v", entries, err)
		}
	})
}
