package erofs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func seeds(f *testing.F) {
	t := testing.TB(f)
	f.Add(pack(t, dir("d"), reg("d/f", "hello"), link("g", "d/f"), symlink("s", "d"), reg("s/x", "1", attr("user.a", "b")), fifo("p"), char("c", device(1, 2))))
	f.Add(pack(t, reg(".wh.x", ""), reg("x/y", ""), reg("x/.wh..wh..opq", ""), link("z", "lower"), reg(strings.Repeat("n", 150), "", gnu), reg("t", "", at(1, 5))))
	f.Add(join(sparse01("f", 5000, []part{{0, []byte("abc")}, {4096, []byte("def")}}), tarEnd))
	f.Add(join(paxBlocks("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=100"), raw('0', "f", "00000001003"), blocks("1\n5\n3\n"), blocks("abc"), tarEnd))
	old := raw('S', "f", "00000000003", field{257, "ustar  \x00"}, field{386, "00000000010\x0000000000003\x00"}, field{483, "00000000100\x00"})
	f.Add(join(old, blocks("abc"), tarEnd))
	f.Add(join(raw('g', "g", "00000000020"), blocks("16 path=ignored\n"), raw('0', "big", "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"), blocks("ok")))
}

// Whatever a tar says, Write refuses it with the kind that says so, or makes a file that verifies, that
// the tar inside gives again, and that another reader can read from end to end.
func FuzzWrite(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		in = fixSums(in)
		file, err := os.Create(filepath.Join(t.TempDir(), "layer"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		limits := Limits{Inodes: 2000, Metadata: 1 << 20}
		res, err := Write(context.Background(), file, bytes.NewReader(in), Options{limits})
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("%v is not of the kind InvalidArgument", err)
			}
			return
		}
		check(t, file, res, in)
		list, err := readImage(file)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, f := range list {
			names[f.Path] = true
		}
		for _, p := range res.Implied {
			if !names[p] {
				t.Errorf("implied %q is not in the file", p)
			}
		}
		again, err := os.Create(filepath.Join(t.TempDir(), "again"))
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		inside, err := Tar(file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Write(context.Background(), again, inside, Options{limits}); err != nil || fmt.Sprint(got) != fmt.Sprint(res) {
			t.Errorf("written again: %v", err)
		}
	})
}

// The headers are read as archive/tar reads them: what it takes is taken, with the same names and
// numbers, and content at the same place.
func FuzzHeaders(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		in = fixSums(in)
		src := newSource(context.Background(), bytes.NewReader(in), nil, maxTar)
		defer src.close()
		ours := &entries{src: src, budget: &budget{max: 1 << 20}}
		theirs := tar.NewReader(bytes.NewReader(in))
		for {
			want, wantErr := theirs.Next()
			for wantErr == nil && want.Typeflag == tar.TypeXGlobalHeader {
				want, wantErr = theirs.Next()
			}
			got, err := ours.next()
			if wantErr != nil {
				return // what archive/tar does not take is ours to judge
			}
			if err != nil {
				var limit *LimitError
				var entry *EntryError
				if errors.As(err, &limit) || (errors.As(err, &entry) && stricter(entry.Reason)) {
					return
				}
				t.Fatalf("%v, but archive/tar reads %q", err, want.Name)
			}
			if string(got.name) != want.Name || string(got.link) != want.Linkname || got.uid != int64(want.Uid) || got.gid != int64(want.Gid) || got.mode != want.Mode {
				t.Fatalf("%q -> %q %d:%d %o\nwant %q -> %q %d:%d %o", got.name, got.link, got.uid, got.gid, got.mode, want.Name, want.Linkname, want.Uid, want.Gid, want.Mode)
			}
			if got.mtime != want.ModTime.Unix() || int(got.nsec) != want.ModTime.Nanosecond() {
				t.Fatalf("time %d.%09d, want %v", got.mtime, got.nsec, want.ModTime)
			}
			if got.typ == typeChar && (got.major != want.Devmajor || got.minor != want.Devminor) {
				t.Fatalf("device %d:%d, want %d:%d", got.major, got.minor, want.Devmajor, want.Devminor)
			}
			if got.typ != typeFile {
				continue
			}
			if got.size != want.Size {
				t.Fatalf("size %d, want %d", got.size, want.Size)
			}
			if got.size > 1<<20 {
				continue
			}
			body, err := io.ReadAll(theirs)
			if err != nil {
				return
			}
			if mine := contentOf(in, got); !bytes.Equal(mine, body) {
				t.Fatalf("content %q, want %q", mine, body)
			}
		}
	})
}

// stricter says for which reasons we refuse what archive/tar takes, until the content is read.
func stricter(reason string) bool {
	for _, r := range []string{
		"sparse file", "ends in the middle", // which it finds out when the content is read
		"size is negative",
	} {
		if strings.Contains(reason, r) {
			return true
		}
	}
	return false
}

func contentOf(in []byte, h *header) []byte {
	b := make([]byte, h.size)
	if !h.sparse {
		copy(b, in[min(h.data, int64(len(in))):])
		return b
	}
	for _, s := range h.segs {
		copy(b[s.off:s.off+s.size], in[min(s.data, int64(len(in))):])
	}
	return b
}

// fixSums makes the checksums right wherever a header might be, so that the fuzzer gets past them.
func fixSums(in []byte) []byte {
	out := bytes.Clone(in)
	for at := 0; at+blockSize <= len(out); at += blockSize {
		b := out[at : at+blockSize]
		if string(b[257:262]) == "ustar" {
			sum(b)
		}
	}
	return out
}
