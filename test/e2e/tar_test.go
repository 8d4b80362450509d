package e2e

import (
	"archive/tar"
	"compress/gzip"
	"os"
	"strconv"
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

// cmdManyFiles writes a compressed tar of N directories without any content, each of which implies all
// the levels above it: manyfiles FILE N LEVELS.
func cmdManyFiles(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: manyfiles FILE N LEVELS")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	levels, err := strconv.Atoi(args[2])
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	ts.Check(err)
	w := tar.NewWriter(z)
	for i := range n {
		name := strconv.Itoa(i) + strings.Repeat("/d", levels-1) + "/"
		ts.Check(w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}))
	}
	ts.Check(w.Close())
	ts.Check(z.Close())
}
