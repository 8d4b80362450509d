package erofs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-engine/berth/internal/testroot"
)

// bigTar makes a tar like a distribution's: n files of 8 KiB on average, in directories of ten, a link
// for every eighth, times that differ.
func bigTar(b *testing.B, n int) []byte {
	b.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(h tar.Header, body []byte) {
		if err := w.WriteHeader(&h); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			b.Fatal(err)
		}
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 1024)
	for i := range n {
		when := time.Unix(1_700_000_000+int64(i%50), 0)
		parent := fmt.Sprintf("usr/share/package-%d/dir-%d", i/200, i/10)
		switch {
		case i%10 == 0:
			put(tar.Header{Typeflag: tar.TypeDir, Name: parent + "/", Mode: 0o755, ModTime: when}, nil)
		case i%8 == 0:
			put(tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprintf("%s/link-%d", parent, i), Linkname: "../target/of/a/link", ModTime: when}, nil)
		default:
			size := i * 37 % len(body)
			put(tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%s/file-%d.so", parent, i), Mode: 0o644, Size: int64(size), ModTime: when}, body[:size])
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// BenchmarkMetadata is what comes after the stream, for a layer of 12,000 inodes: layout, writing, hash.
func BenchmarkMetadata(b *testing.B) {
	in := bigTar(b, 12_000)
	f, err := os.Create(filepath.Join(testroot.Dir(b), "layer"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for b.Loop() {
		b.StopTimer()
		t, src, err := readTar(b.Context(), bytes.NewReader(in), f, DefaultLimits())
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		res, err := writeMetadata(b.Context(), f, t, src)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(res.Size-res.TarSize)/float64(res.Inodes), "B/inode")
	}
}

// BenchmarkParse is the reading of the tar without hash and file.
func BenchmarkParse(b *testing.B) {
	in := bigTar(b, 12_000)
	b.ReportAllocs()
	for b.Loop() {
		src := newSource(b.Context(), bytes.NewReader(in), nil, maxTar)
		budget := &budget{max: maxMetadata}
		t, e := newTree(DefaultLimits(), budget), &entries{src: src, budget: budget}
		for {
			h, err := e.next()
			if err != nil {
				break
			}
			if err := t.add(h); err != nil {
				b.Fatal(err)
			}
		}
		if err := src.close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrite is all of it.
func BenchmarkWrite(b *testing.B) {
	in := bigTar(b, 12_000)
	f, err := os.Create(filepath.Join(testroot.Dir(b), "layer"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Write(b.Context(), f, bytes.NewReader(in), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
