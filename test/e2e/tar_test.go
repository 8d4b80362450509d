package e2e

import (
	"archive/tar"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdTar writes a tar as no honest program does: tar FILE ENTRY…, where an entry is NAME/ (a directory),
// NAME=CONTENT (a file), NAME->TARGET (a symbolic link) or NAME=>TARGET (a hard link).
func cmdTar(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: tar FILE ENTRY...")
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	w := tar.NewWriter(f)
	for _, text := range args[1:] {
		h, content := entry(text)
		ts.Check(w.WriteHeader(h))
		_, err := w.Write([]byte(content))
		ts.Check(err)
	}
	ts.Check(w.Close())
}

// entry reads one entry of cmdTar.
func entry(text string) (h *tar.Header, content string) {
	if name, target, ok := strings.Cut(text, "->"); ok {
		return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""
	}
	if name, target, ok := strings.Cut(text, "=>"); ok {
		return &tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, ""
	}
	if name, content, ok := strings.Cut(text, "="); ok {
		return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644}, content
	}
	return &tar.Header{Typeflag: tar.TypeDir, Name: text, Mode: 0o755}, ""
}
