package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/testroot"
)

// part is a piece of a sparse file that is there.
type part struct {
	off  int64
	data []byte
}

// sparse01 is an entry with a map of GNU's PAX version 0.1.
func sparse01(name string, size int64, parts []part) []byte {
	var numbers []string
	var data []byte
	for _, p := range parts {
		numbers = append(numbers, fmt.Sprint(p.off), fmt.Sprint(len(p.data)))
		data = append(data, p.data...)
	}
	return join(
		paxBlocks("GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.name="+name, fmt.Sprintf("GNU.sparse.size=%d", size),
			fmt.Sprintf("GNU.sparse.numblocks=%d", len(parts)), "GNU.sparse.map="+strings.Join(numbers, ",")),
		raw('0', "GNUSparseFile/x", fmt.Sprintf("%011o", len(data))), blocks(string(data)))
}

// Random maps, of parts that are aligned and parts that are not, read back by go-erofs and the kernel.
func TestSparseRandom(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	var tar []byte
	want := map[string][]byte{}
	for i := range 40 {
		size := rnd.Int64N(200_000)
		unit := []int64{1, 512, 4096, 700}[i%4]
		content := make([]byte, size)
		var parts []part
		for at := int64(0); at < size; {
			at += rnd.Int64N(20) * unit
			n := min(rnd.Int64N(6)*unit, size-at)
			if n < 0 {
				break
			}
			data := make([]byte, n)
			for j := range data {
				data[j] = byte(rnd.Uint32())
			}
			copy(content[at:], data)
			parts = append(parts, part{at, data})
			at += n
		}
		name := fmt.Sprintf("f%d", i)
		tar = append(tar, sparse01(name, size, parts)...)
		want[name] = content
	}
	f, res := writeLayer(t, append(tar, tarEnd...), Options{})
	check(t, f, res, append(tar, tarEnd...))
	image, err := goerofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := mount(t, f)
	for name, content := range want {
		r, err := image.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
			t.Errorf("seed %d: %s of %d bytes: go-erofs reads something else: %v", seed, name, len(content), err)
		}
		r.Close()
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("seed %d: %s of %d bytes: the kernel reads something else: %v", seed, name, len(content), err)
		}
	}
}

// A tar of 10 KB that declares 300 GB costs a small table, and the parts that are there are found.
func TestSparseHuge(t *testing.T) {
	page := bytes.Repeat([]byte("x"), 4096)
	const size = 300 << 30
	tar := join(
		sparse01("aligned", size, []part{{0, page}, {100 << 30, page}, {size - 4096, page}}),
		sparse01("odd", size, []part{{100<<30 + 5, page}}),
		sparse01("hole", 1<<42, nil),
		tarEnd)
	f, res := writeLayer(t, tar, Options{})
	if res.Size > 16<<20 {
		t.Errorf("a layer file of %d MiB", res.Size>>20)
	}
	dir := mount(t, f)
	for name, want := range map[string][]int64{"aligned": {0, 100 << 30, size - 4096}, "odd": {100<<30 + 5}} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || info.Size() != size {
			t.Errorf("%s: %v %v", name, info.Size(), err)
		}
		for _, off := range want {
			got := make([]byte, 4096)
			if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, page) {
				t.Errorf("%s at %d: %v", name, off, err)
			}
			if off > 0 {
				if _, err := f.ReadAt(got[:1], off-1); err != nil || got[0] != 0 {
					t.Errorf("%s before %d: %v %v", name, off, got[0], err)
				}
			}
		}
	}
	hole, err := os.Open(filepath.Join(dir, "hole"))
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	if _, err := hole.Seek(0, unix.SEEK_DATA); !errors.Is(err, unix.ENXIO) {
		t.Errorf("data in a hole: %v", err)
	}
}

// A sparse file whose parts begin at blocks is pointed at: nothing is copied.
func TestSparseNotCopied(t *testing.T) {
	mib := bytes.Repeat([]byte("x"), 1<<20)
	tar := join(sparse01("f", 64<<20, []part{{0, mib}, {16 << 20, mib}, {32 << 20, mib}}), sparse01("whole", 1<<20, []part{{0, mib}}), tarEnd)
	f, res := writeLayer(t, tar, Options{})
	if extra := res.Size - res.TarSize; extra > 16<<10 {
		t.Errorf("%d bytes behind the tar", extra)
	}
	compare(t, listImage(t, f), listDir(t, mount(t, f)))
}

// What GNU tar makes of a sparse file, in all its formats.
func TestSparseGNU(t *testing.T) {
	src := testroot.Dir(t)
	f, err := os.Create(filepath.Join(src, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(40) { // more parts than a header block and one of extension have room for
		if _, err := f.WriteAt([]byte(fmt.Sprintf("part %d", i)), i*1<<20+i*4096); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(100<<20+1), f.Close()); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range [][]string{
		{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"}, {"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=1.0"},
	} {
		t.Run(strings.Join(format, " "), func(t *testing.T) {
			tar, err := exec.Command("tar", append(format, "--sparse", "-C", src, "-cf", "-", "sparse")...).Output()
			if err != nil {
				t.Fatal(err)
			}
			if len(tar) > 1<<20 {
				t.Fatalf("tar made %d bytes: was the file not sparse?", len(tar))
			}
			f, res := writeLayer(t, tar, Options{})
			if extra := res.Size - res.TarSize; extra > 2<<20 {
				t.Errorf("%d bytes behind a tar of %d", extra, res.TarSize)
			}
			got, err := os.ReadFile(filepath.Join(mount(t, f), "sparse"))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("the content differs: %v", err)
			}
			image, err := goerofs.Open(f)
			if err != nil {
				t.Fatal(err)
			}
			r, err := image.Open("sparse")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
				t.Errorf("go-erofs reads something else: %v", err)
			}
		})
	}
}
