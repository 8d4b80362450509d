package erofs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/containerd/errdefs"
)

// try writes a layer file of what a tar should not be.
func try(t testing.TB, tar io.Reader, opts Options) error {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = Write(t.Context(), f, tar, opts)
	if err == nil {
		t.Fatal("was taken")
	}
	if _, err := ReadHeader(f); !errdefs.IsDataLoss(err) {
		t.Errorf("what was not finished reads as a layer file: %v", err)
	}
	return err
}

func TestRefused(t *testing.T) {
	whole := pack(t, reg("f", strings.Repeat("x", 2000)))
	cases := []struct {
		name string
		tar  []byte
		opts Options
		want string
	}{
		{name: "leaves the root", tar: pack(t, reg("../f", "")), want: `tar entry "../f": its path leads out of the layer's root`},
		{name: "leaves the root later", tar: pack(t, reg("a/../../f", "")), want: `tar entry "a/../../f": its path leads out of the layer's root`},
		{name: "link target leaves the root", tar: pack(t, reg("f", ""), link("g", "../f")), want: `tar entry "g": the target "../f" of a hard link: its path leads out of the layer's root`},
		{name: "root is a file", tar: join(raw('0', "./", "0"), tarEnd), want: `tar entry "./": the root of a layer can only be a directory`},
		{name: "root is a link", tar: pack(t, symlink("/", "x")), want: `tar entry "/": the root of a layer can only be a directory`},
		{name: "path too long", tar: pack(t, reg(strings.Repeat("a/", 2048)+"f", "")), want: "its path is longer than 4095 bytes"},
		{name: "name too long", tar: pack(t, reg("d/"+strings.Repeat("a", 256), "")), want: "its name is longer than 255 bytes"},
		{name: "directory name too long", tar: pack(t, reg(strings.Repeat("a", 256)+"/f", "")), want: "a part of its path is longer than 255 bytes"},
		{name: "whiteout name too long", tar: pack(t, reg(".wh."+strings.Repeat("a", 256), "")), want: "its name is longer than 255 bytes"},
		{name: "link target too long", tar: pack(t, symlink("s", strings.Repeat("a", 4096))), want: `tar entry "s": the target of a symbolic link is longer than 4095 bytes`},
		{name: "link target empty", tar: join(raw('2', "s", "0"), tarEnd), want: `tar entry "s": a symbolic link without a target`},
		{name: "whiteout of nothing", tar: pack(t, reg("d/.wh.", "")), want: `tar entry "d/.wh.": a whiteout that names nothing`},
		{name: "whiteout of .", tar: pack(t, reg(".wh..", "")), want: `tar entry ".wh..": a whiteout that names nothing`},
		{name: "whiteout of ..", tar: pack(t, reg(".wh...", "")), want: `tar entry ".wh...": a whiteout that names nothing`},
		{name: "hard link to a directory", tar: pack(t, dir("d"), link("g", "d")), want: `tar entry "g": a hard link to "d", which is a directory`},
		{name: "hard link to an implied directory", tar: pack(t, reg("d/f", ""), link("g", "d")), want: `tar entry "g": a hard link to "d", which is a directory`},
		{name: "hard link to the root", tar: pack(t, link("g", "./")), want: `tar entry "g": a hard link to the root`},
		{name: "hard link to itself", tar: pack(t, reg("g", ""), link("g", "./g")), want: `tar entry "g": a hard link to itself`},
		{name: "hard link to itself, which is not there", tar: pack(t, link("g", "/g")), want: `tar entry "g": a hard link to itself`},
		{name: "hard link to itself through a symbolic link", tar: pack(t, dir("d"), symlink("s", "d"), reg("d/g", ""), link("d/g", "s/g")), want: `tar entry "d/g": a hard link to itself`},
		{name: "hard link to what it replaces", tar: pack(t, reg("d/f", ""), link("d", "d/f")), want: `tar entry "d": a hard link to "d/f", which it replaces`},
		{name: "hard link below a file", tar: pack(t, reg("f", ""), link("g", "f/x")), want: `tar entry "g": the target "f/x" of a hard link: it is below "f", which is not a directory`},
		{name: "hard link to lost aufs file", tar: pack(t, link("g", ".wh..wh.plnk/1")), want: `tar entry "g": a hard link to ".wh..wh.plnk/1", which is not there`},
		{name: "below a file", tar: pack(t, reg("f", ""), reg("f/x", "")), want: `tar entry "f/x": it is below "f", which is not a directory`},
		{name: "below a dangling link", tar: pack(t, symlink("s", "/nowhere"), reg("s/x", "")), want: `tar entry "s/x": it is below a symbolic link that leads to nothing in this layer`},
		{name: "below a dangling link, deeper", tar: pack(t, symlink("s", "nowhere"), reg("s/a/b/x", "")), want: "it is below a symbolic link that leads to nothing in this layer"},
		{name: "links in a circle", tar: pack(t, symlink("a", "b"), symlink("b", "a"), reg("a/x", "")), want: `tar entry "a/x": its path goes through too many symbolic links`},
		{name: "major number", tar: pack(t, char("c", device(4096, 0))), want: `tar entry "c": its device number 4096:0 is out of range`},
		{name: "minor number", tar: pack(t, blk("c", device(0, 1<<20))), want: `tar entry "c": its device number 0:1048576 is out of range`},
		{name: "owner", tar: join(paxBlocks("uid=4294967295"), raw('0', "f", "0"), tarEnd), want: `tar entry "f": its owner 4294967295 is out of range`},
		{name: "negative owner", tar: join(paxBlocks("uid=-1"), raw('0', "f", "0"), tarEnd), want: `tar entry "f": its owner -1 is out of range`},
		{name: "group", tar: join(paxBlocks("gid=5000000000"), raw('0', "f", "0"), tarEnd), want: `tar entry "f": its group 5000000000 is out of range`},
		{name: "owner that is no number", tar: join(paxBlocks("uid=root"), raw('0', "f", "0"), tarEnd), want: `tar entry "f": its owner is not a number`},
		{name: "time that is no number", tar: join(paxBlocks("mtime=1.-5"), raw('0', "f", "0"), tarEnd), want: `tar entry "f": its time is not a number`},
		{name: "negative size", tar: join(paxBlocks("size=-1"), raw('0', "f", "0"), tarEnd), want: `tar entry "f": its size is negative`},
		{name: "negative size in base 256", tar: join(raw('0', "f", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), tarEnd), want: `tar entry "f": its size is negative`},
		{name: "size that is no number", tar: join(raw('0', "f", "12x"), tarEnd), want: "the layer's tar is damaged at byte 0: the size of an entry is not a number"},
		{name: "unknown type", tar: join(raw('V', "f", "0"), tarEnd), want: `tar entry "f": its type 'V' is not known`},
		{name: "NUL in a path", tar: join(paxBlocks("path=a\x00b"), raw('0', "f", "0"), tarEnd), want: "a PAX record is malformed"},
		{name: "malformed PAX", tar: join(raw('x', "x", "00000000005"), blocks("99 a="), raw('0', "f", "0"), tarEnd), want: "the layer's tar is damaged at byte 0: a PAX record is malformed"},
		{name: "PAX of 2 MB", tar: join(raw('x', "x", "00010000000"), tarEnd), want: "an extended header has 2097152 bytes, more than 1 MiB"},
		{name: "capability", tar: pack(t, reg("f", "", attr("security.capability", capV2[:19]))), want: `tar entry "f": its extended attribute security.capability is malformed`},
		{name: "capability of revision 1", tar: pack(t, reg("f", "", attr("security.capability", "\x01\x00\x00\x01\x00\x20\x00\x00\x00\x00\x00\x00"))), want: "security.capability is malformed"},
		{name: "capability with a root that is none", tar: pack(t, reg("f", "", attr("security.capability", capV3[:20]+"\xff\xff\xff\xff"))), want: "security.capability is malformed"},
		{name: "ACL", tar: pack(t, reg("f", "", attr("system.posix_acl_access", acl[:20]))), want: `tar entry "f": its extended attribute system.posix_acl_access is malformed`},
		{name: "ACL without mask", tar: pack(t, dir("f", attr("system.posix_acl_default", acl[:28]+acl[36:]))), want: "system.posix_acl_default is malformed"},
		{name: "attribute of 64 KiB", tar: pack(t, reg("f", "", attr("user.x", strings.Repeat("v", 65536)))), want: `tar entry "f": its extended attribute user.x has 65536 bytes, more than 65535`},
		{name: "attributes of 64 KiB together", tar: pack(t, reg("f", "", attr("user.x", strings.Repeat("v", 40000)), attr("user.y", strings.Repeat("v", 40000)))), want: `tar entry "f" has more than 65536 bytes of extended attributes`},
		{name: "attribute name too long", tar: pack(t, reg("f", "", attr("user."+strings.Repeat("n", 251), ""))), want: "is longer than 255 bytes"},
		{name: "attribute name empty", tar: pack(t, reg("f", "", attr("user.", "x"))), want: `the name of its extended attribute "user." is empty`},
		{name: "too many entries", tar: pack(t, dir("a"), dir("b"), dir("c")), opts: Options{Limits{Inodes: 2}}, want: `the layer has more than 2 files and directories (tar entry "c")`},
		{name: "too many implied", tar: pack(t, dir("a/b/c")), opts: Options{Limits{Inodes: 2}}, want: `the layer has more than 2 files and directories (tar entry "a/b/c")`},
		{name: "metadata", tar: pack(t, reg(strings.Repeat("n", 200), ""), symlink("s", strings.Repeat("t", 300))), opts: Options{Limits{Metadata: 500}}, want: `the layer has more than 500 bytes of metadata (tar entry "s")`},
		{name: "tar too large", tar: pack(t, reg("f", "")), opts: Options{Limits{Tar: 1024}}, want: "the layer has more than 1024 bytes"},
		{name: "no tar", tar: []byte(strings.Repeat("garbage ", 200)), want: "the layer's tar is damaged at byte 0: there is no valid header (its checksum does not match)"},
		{name: "one block of zeros", tar: join(tarEnd[:512], raw('0', "f", "0")), want: "the layer's tar is damaged at byte 0: a block of zeros is followed by something else"},
		{name: "cut off in a header", tar: whole[:100], want: "the layer's tar is damaged at byte 0: it ends in the middle of an entry"},
		{name: "cut off in content", tar: whole[:1000], want: "the layer's tar is damaged at byte 512: it ends in the middle of an entry"},
		{name: "cut off behind an extended header", tar: paxBlocks("path=x"), want: "the layer's tar is damaged at byte 0: it ends in the middle of an entry"},
		{name: "cut off in an extended header", tar: paxBlocks("path=x")[:515], want: "the layer's tar is damaged at byte 0: it ends in the middle of an entry"},
		{name: "sparse: overlapping", tar: join(paxBlocks("GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.numblocks=2", "GNU.sparse.map=0,10,5,10", "GNU.sparse.size=100"), raw('0', "f", "00000000024"), blocks(strings.Repeat("x", 20)), tarEnd), want: `tar entry "f": the map of a sparse file has parts that overlap, or are outside of the file`},
		{name: "sparse: outside", tar: join(paxBlocks("GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.numblocks=1", "GNU.sparse.map=95,10", "GNU.sparse.size=100"), raw('0', "f", "00000000012"), blocks("0123456789"), tarEnd), want: "are outside of the file"},
		{name: "sparse: more than there is", tar: join(paxBlocks("GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.numblocks=1", "GNU.sparse.map=5,20", "GNU.sparse.size=100"), raw('0', "f", "00000000012"), blocks("0123456789"), tarEnd), want: "has more bytes than the tar"},
		{name: "sparse: less than there is", tar: join(paxBlocks("GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.numblocks=1", "GNU.sparse.map=5,2", "GNU.sparse.size=100"), raw('0', "f", "00000000012"), blocks("0123456789"), tarEnd), want: "has fewer bytes than the tar"},
		{name: "sparse: count", tar: join(paxBlocks("GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.numblocks=2", "GNU.sparse.map=5,10", "GNU.sparse.size=100"), raw('0', "f", "00000000012"), blocks("0123456789"), tarEnd), want: "malformed"},
		{name: "sparse: version", tar: join(paxBlocks("GNU.sparse.major=2", "GNU.sparse.minor=0"), raw('0', "f", "0"), tarEnd), want: "is a sparse file of a version that is not known"},
		{name: "sparse: a directory", tar: join(paxBlocks("GNU.sparse.major=1", "GNU.sparse.minor=0"), raw('5', "f", "0"), tarEnd), want: "has the map of a sparse file and is none"},
		{name: "sparse: in content, no end", tar: join(paxBlocks("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=100"), raw('0', "f", "00000001000"), blocks("1\n0"), tarEnd), want: "malformed"},
		{name: "sparse: in content, too long a number", tar: join(paxBlocks("GNU.sparse.major=1", "GNU.sparse.minor=0"), raw('0', "f", "00000001000"), blocks(strings.Repeat("0", 100)), tarEnd), want: "malformed"},
		{name: "sparse: table over the limit", tar: join(paxBlocks("GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.numblocks=0", "GNU.sparse.map=", "GNU.sparse.size=9223372036854775807"), raw('0', "f", "0"), tarEnd), want: `the layer has more than 268435456 bytes of metadata (tar entry "f")`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := try(t, reader(c.tar), c.opts)
			if !strings.Contains(err.Error(), c.want) || (strings.HasPrefix(c.want, "tar entry") && err.Error() != c.want) {
				t.Errorf("%q\nwant %q", err, c.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Error("more than one line")
			}
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v is not of the kind InvalidArgument", err)
			}
			if strings.HasPrefix(c.name, "cut off") != errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v: ErrUnexpectedEOF?", err)
			}
		})
	}
}

func TestSourceFails(t *testing.T) {
	broken := errors.New("the line is dead")
	whole := pack(t, reg("f", strings.Repeat("x", 3<<20)))
	for _, n := range []int{0, 100, 600, 2 << 20, len(whole)} {
		err := try(t, io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken)), Options{})
		if !errors.Is(err, broken) || errdefs.IsInvalidArgument(err) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestFileFails(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Write(t.Context(), f, reader(pack(t, reg("f", strings.Repeat("x", 9<<20)))), Options{}); err == nil || !strings.Contains(err.Error(), "write the layer file") {
		t.Error(err)
	}
}

func TestCancelled(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, f, reader(pack(t, reg("f", ""))), Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// bomb gives a tar of n entries, each made as it is read.
type bomb struct {
	n, at int
	entry func(i int) []byte
	rest  []byte
}

func (b *bomb) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.at == b.n {
			return 0, io.EOF
		}
		b.rest = b.entry(b.at)
		b.at++
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Two million inodes are refused before they have cost much memory, whichever way the tar asks for them
// (all but the first way with an eighth of the limits, for the test's time).
func TestBombs(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	block := raw('0', "", "0")
	plain := func(i int) []byte {
		copy(block, fmt.Sprintf("d%d/f%07d", i%1000, i))
		return sum(block)
	}
	cases := map[string]func(i int) []byte{
		"files":  plain,
		"links":  func(i int) []byte { b := raw('1', fmt.Sprintf("l%07d", i), "0", field{157, "x"}); return b },
		"labels": func(i int) []byte { return raw('0', fmt.Sprintf(".wh.%07d", i), "0") },
		// As a PAX path of nearly 4 KiB: 2,000 directories for an entry.
		"deep": func(i int) []byte {
			return join(paxBlocks(fmt.Sprintf("path=%d/%sf", i, strings.Repeat("d/", 2000))), raw('0', "", "0"))
		},
		"names": func(i int) []byte {
			return join(paxBlocks(fmt.Sprintf("path=%07d%s", i, strings.Repeat("n", 240))), raw('0', "", "0"))
		},
		"targets": func(i int) []byte {
			return join(paxBlocks("linkpath="+strings.Repeat("t", 4000)), raw('2', fmt.Sprint(i), "0"))
		},
		"attributes": func(i int) []byte {
			return join(paxBlocks(fmt.Sprintf("SCHILY.xattr.user.x=%d%s", i, strings.Repeat("t", 60000))), raw('0', fmt.Sprint(i), "0"))
		},
		"replaced": func(i int) []byte {
			if i%2 == 0 {
				return raw('5', "d", "0")
			}
			return raw('0', "d", "0")
		},
	}
	for name, entry := range cases {
		t.Run(name, func(t *testing.T) {
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			limits, src := DefaultLimits(), &bomb{n: 2_000_000, entry: entry}
			if name != "files" {
				limits.Inodes, limits.Metadata, src.n = limits.Inodes/8, limits.Metadata/8, src.n/8
			}
			tree, _, err := readTar(t.Context(), src, nil, limits)
			if name == "replaced" {
				if err != nil || len(tree.inodes) > 10 {
					t.Errorf("%v, %d inodes", err, len(tree.inodes))
				}
				return
			}
			var limit *LimitError
			if !errors.As(err, &limit) {
				t.Fatalf("%v", err)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(tree)
			if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > limits.Metadata*3/2 {
				t.Errorf("%d MiB of memory", used>>20)
			} else {
				t.Logf("%v: %d MiB of memory, %d entries read", err, used>>20, src.at)
			}
		})
	}
}
