package erofs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a tar makes. Every case is read by the kernel (as root) and by go-erofs; the root directory is
// left out of what is expected, unless the case looks at it.
func TestTree(t *testing.T) {
	long := strings.Repeat("n", 255)
	deep := strings.Repeat(strings.Repeat("d", 99)+"/", 40) + "file" // 4004 bytes
	cases := []struct {
		name    string
		tar     []byte
		want    []string
		implied []string
		lower   []LowerLink
		opaque  bool
	}{
		{
			name: "every type",
			tar: pack(t,
				dir("d/", mode(0o1777), owner(1, 2)),
				reg("d/f", "hello", mode(0o4755), owner(70000, 80000)),
				reg("empty", ""),
				symlink("l", "d/f"),
				char("c", device(1, 3), mode(0o666)),
				blk("b", device(4095, 1<<20-1)),
				fifo("p", mode(0o640)),
			),
			want: []string{
				"b b 600 0:0 4095,1048575", "c c 666 0:0 1,3", "d d 1777 1:2", `f d/f 4755 70000:80000 "hello"`,
				`f empty 644 0:0 ""`, "l l 777 0:0 -> d/f", "p p 640 0:0",
			},
		},
		{
			name: "times",
			tar: pack(t, reg("a", "", at(1, 5)), reg("b", "", at(-3, 999999999)), reg("c", "", at(1<<33, 0)),
				dir("d", at(0, 0)), reg("e", "", at(defaultTime, 0))),
			want: []string{
				`f a 644 0:0 "" @1.000000005`, `f b 644 0:0 "" @-3.999999999`, `f c 644 0:0 "" @8589934592.000000000`,
				"d d 755 0:0 @0.000000000", `f e 644 0:0 ""`,
			},
		},
		{
			name: "names of 255 bytes, paths of 4 KiB, in both formats",
			tar: pack(t, reg(long, "x"), reg(deep, "y"), reg(long[:250]+"/g", "z", gnu),
				symlink("s", strings.Repeat("t", 4095)), symlink("t", strings.Repeat("u", 430)), symlink("u", strings.Repeat("v", 460))),
			want: func() []string {
				w := []string{
					"f " + long + ` 644 0:0 "x"`, "d " + long[:250] + " 755 0:0", "f " + long[:250] + `/g 644 0:0 "z"`,
					"l s 777 0:0 -> " + strings.Repeat("t", 4095), "l t 777 0:0 -> " + strings.Repeat("u", 430),
					"l u 777 0:0 -> " + strings.Repeat("v", 460), "f " + deep + ` 644 0:0 "y"`,
				}
				for i, c := range deep {
					if c == '/' {
						w = append(w, "d "+deep[:i]+" 755 0:0")
					}
				}
				return w
			}(),
			implied: func() []string {
				var w []string
				for i, c := range deep {
					if c == '/' {
						w = append(w, deep[:i])
					}
				}
				return append(w, long[:250])
			}(),
		},
		{
			name: "names that sort before the dot",
			tar:  pack(t, reg("!", ""), reg("-", ""), reg("..a", ""), reg(".a", ""), reg("...", ""), reg("\xff", "")),
			want: []string{`f ! 644 0:0 ""`, `f - 644 0:0 ""`, `f ..a 644 0:0 ""`, `f .a 644 0:0 ""`, `f ... 644 0:0 ""`, "f \xff 644 0:0 \"\""},
		},
		{
			name:    "parents without an entry are as old as what implies them",
			tar:     pack(t, reg("a/b/f", "", at(7, 9)), dir("a/b/", mode(0o700), at(8, 0)), reg("c/d/g", "")),
			want:    []string{"d a 755 0:0 @7.000000000", "d a/b 700 0:0 @8.000000000", `f a/b/f 644 0:0 "" @7.000000009`, "d c 755 0:0", "d c/d 755 0:0", `f c/d/g 644 0:0 ""`},
			implied: []string{"a", "c", "c/d"},
		},
		{
			name: "the root's entry gives a time and nothing else",
			tar:  pack(t, dir("./", mode(0o700), owner(5, 5), at(12, 0)), reg("./f", "")),
			want: []string{"d . 755 0:0 @12.000000000", `f f 644 0:0 ""`},
		},
		{
			name: "absolute and untidy paths",
			tar:  pack(t, reg("/abs", "1"), reg("./x//y/../z", "2"), reg("/../up", "3"), dir("e/./")),
			want: []string{`f abs 644 0:0 "1"`, "d e 755 0:0", `f up 644 0:0 "3"`, "d x 755 0:0", `f x/z 644 0:0 "2"`}, implied: []string{"x"},
		},
		{
			name: "hard links",
			tar: pack(t, reg("f", "hello", owner(1, 1)), link("g", "f", owner(1, 1)), dir("d"), link("d/h", "./g", owner(1, 1)),
				symlink("s", "f"), link("s2", "s"), fifo("p"), link("p2", "/p")),
			want: []string{
				"d d 755 0:0", `f d/h 644 1:1 "hello" links=3`, `f f 644 1:1 "hello" links=3 same=d/h`, `f g 644 1:1 "hello" links=3 same=d/h`,
				"p p 644 0:0 links=2", "p p2 644 0:0 links=2 same=p", "l s 777 0:0 -> f links=2", "l s2 777 0:0 -> f links=2 same=s",
			},
		},
		{
			name: "a hard link says owner, permissions and time of its inode again",
			tar:  pack(t, reg("f", "x", attr("user.a", "1"), attr("user.b", "1")), link("g", "f", owner(3, 4), mode(0o600), at(5, 0), attr("user.b", "2"))),
			want: []string{
				`f f 600 3:4 "x" @5.000000000 links=2 user.a="1" user.b="2"`,
				`f g 600 3:4 "x" @5.000000000 links=2 same=f user.a="1" user.b="2"`,
			},
		},
		{
			name: "of duplicates the last wins, links are counted afterwards",
			tar:  pack(t, reg("f", "1"), link("g", "f"), reg("f", "22"), reg("h", "3"), link("h", "g"), dir("d", mode(0o700)), reg("d/x", ""), dir("d", owner(1, 1))),
			want: []string{"d d 755 1:1", `f d/x 644 0:0 ""`, `f f 644 0:0 "22"`, `f g 644 0:0 "1" links=2`, `f h 644 0:0 "1" links=2 same=g`},
		},
		{
			name: "a hard link to its own inode",
			tar:  pack(t, reg("f", "1"), link("g", "f"), link("g", "f")),
			want: []string{`f f 644 0:0 "1" links=2`, `f g 644 0:0 "1" links=2 same=f`},
		},
		{
			name: "a file replaces a directory, and the other way round",
			tar:  pack(t, dir("a"), reg("a/b/c", "x"), link("keep", "a/b/c"), reg("a", "file"), reg("z", ""), dir("z"), reg("z/y", ""), symlink("q", "z"), dir("q")),
			want: []string{`f a 644 0:0 "file"`, `f keep 644 0:0 "x"`, "d q 755 0:0", "d z 755 0:0", `f z/y 644 0:0 ""`},
		},
		{
			name: "symbolic links above an entry are followed inside of the layer",
			tar: pack(t, dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib"), reg("lib/a", "1"), symlink("abs", "/usr"), reg("abs/lib/new/b", "2"),
				symlink("usr/up", "../../../usr/./lib"), reg("usr/up/c", "3"), link("d", "lib/a")),
			want: []string{
				"l abs 777 0:0 -> /usr", `f d 644 0:0 "1" links=2`, "l lib 777 0:0 -> usr/lib", "d usr 755 0:0", "d usr/lib 755 0:0",
				`f usr/lib/a 644 0:0 "1" links=2 same=d`, `f usr/lib/c 644 0:0 "3"`, "d usr/lib/new 755 0:0", `f usr/lib/new/b 644 0:0 "2"`,
				"l usr/up 777 0:0 -> ../../../usr/./lib",
			},
			implied: []string{"usr/lib/new"},
		},
		{
			name: "a symbolic link that an entry replaces is not followed",
			tar:  pack(t, symlink("s", "/etc/passwd"), reg("s", "mine"), symlink("t", "nowhere"), fifo("t")),
			want: []string{`f s 644 0:0 "mine"`, "p t 600 0:0"},
		},
		{
			name:    "whiteouts",
			tar:     pack(t, dir("etc"), reg("etc/.wh.passwd", ""), reg(".wh.gone", ""), reg("no/parent/.wh.x", ""), reg(".wh..x", ""), reg(".wh.etc2", "body")),
			implied: []string{"no", "no/parent"},
			want: []string{
				"c .x 0 0:0 0,0 links=5", "d etc 755 0:0", "c etc/passwd 0 0:0 0,0 links=5 same=.x", "c etc2 0 0:0 0,0 links=5 same=.x",
				"c gone 0 0:0 0,0 links=5 same=.x", "d no 755 0:0", "d no/parent 755 0:0", "c no/parent/x 0 0:0 0,0 links=5 same=.x",
			},
		},
		{
			name: "whiteouts beside what they are named after",
			tar: pack(t, reg(".wh.a", ""), dir("a"), reg("b/x", ""), reg(".wh.b", ""), reg(".wh.f", ""), reg("f", "1"), reg("g", "2"), reg(".wh.g", ""),
				dir("h"), reg(".wh.h", ""), reg("h", "3")),
			want: []string{
				`d a 755 0:0 trusted.overlay.opaque="y"`, `d b 755 0:0 trusted.overlay.opaque="y"`, `f b/x 644 0:0 ""`,
				`f f 644 0:0 "1"`, `f g 644 0:0 "2"`, `f h 644 0:0 "3"`,
			},
		},
		{
			name: "opaque directories",
			tar:  pack(t, dir("a", attr("user.k", "v")), reg("a/.wh..wh..opq", ""), reg("a/b", ""), reg("i/.wh..wh..opq", ""), reg("c/.wh..wh..opq", ""), dir("c")),
			want: []string{
				`d a 755 0:0 trusted.overlay.opaque="y" user.k="v"`, `f a/b 644 0:0 ""`, `d c 755 0:0 trusted.overlay.opaque="y"`,
				`d i 755 0:0 trusted.overlay.opaque="y"`,
			},
			implied: []string{"i"},
		},
		{
			name:   "an opaque root",
			tar:    pack(t, reg(".wh..wh..opq", ""), reg("f", "")),
			want:   []string{`d . 755 0:0 @0.000000000 trusted.overlay.opaque="y"`, `f f 644 0:0 ""`},
			opaque: true,
		},
		{
			name: "what aufs left is passed over, but hard links into it work",
			tar: pack(t, reg(".wh..wh.aufs", ""), dir(".wh..wh.orph"), dir(".wh..wh.plnk"), reg(".wh..wh.plnk/1.2", "linked"), link("a", ".wh..wh.plnk/1.2"),
				link("b", "./.wh..wh.plnk/1.2")),
			want: []string{`f a 644 0:0 "linked" links=2`, `f b 644 0:0 "linked" links=2 same=a`},
		},
		{
			name:    "hard links out of the layer",
			tar:     pack(t, link("b", "lib/x"), link("c/d", "/lib/x"), link("e", "b"), reg("gone", ""), link("gone", "y"), link("replaced", "z"), reg("replaced", ""), reg(".wh.b", "")),
			want:    []string{"c b 0 0:0 0,0", "d c 755 0:0", `f replaced 644 0:0 ""`},
			implied: []string{"c"},
			lower:   []LowerLink{{"b", "lib/x"}, {"c/d", "lib/x"}, {"e", "lib/x"}, {"gone", "y"}},
		},
		{
			name: "old entries: a slash makes a directory, contiguous files are files",
			tar:  join(raw(0, "d/", "0"), raw(0, "d/f", "00000000003"), blocks("abc"), raw('7', "g", "00000000001"), blocks("x"), tarEnd),
			want: []string{"d d 644 0:0", `f d/f 644 0:0 "abc"`, `f g 644 0:0 "x"`},
		},
		{
			name: "content after a link or directory is none",
			tar:  join(raw('2', "l", "00000000777", field{157, "t"}), raw('5', "d", "00000000777"), tarEnd),
			want: []string{"d d 644 0:0", "l l 777 0:0 -> t"},
		},
		{
			name: "base 256 numbers, GNU's and PAX's long names, a global header",
			tar: join(
				raw('g', "pax_global_header", "00000000020"), blocks("16 path=ignored\n"),
				raw('0', "big", "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02", field{108, "\x80\x00\x00\x00\x00\x01\x11\x70"}), blocks("ok"),
				raw('L', "././@LongLink", "00000000005"), blocks("long\x00"), raw('K', "././@LongLink", "00000000003"), blocks("to\x00"), raw('2', "x", "0"),
				paxBlocks("path=pax", "linkpath=target", "uid=7", "mtime=-1.5", "comment=c"), raw('2', "x", "0"),
				tarEnd),
			want: []string{`f big 644 70000:0 "ok"`, "l long 777 0:0 -> to", "l pax 777 7:0 -> target @-2.500000000"},
		},
		{
			name: "a tar without its end, and one that is cut off in padding",
			tar:  join(raw('0', "f", "00000000003"), []byte("abc")),
			want: []string{`f f 644 0:0 "abc"`},
		},
		{
			name: "rubbish behind the end",
			tar:  join(raw('0', "f", "00000000003"), blocks("abc"), tarEnd, []byte("rubbish")),
			want: []string{`f f 644 0:0 "abc"`},
		},
		{name: "nothing at all", tar: nil, want: nil},
		{name: "only its end", tar: tarEnd, want: nil},
		{
			name: "attributes",
			tar: pack(t,
				reg("cap", "", attr("security.capability", capV2), attr("user.x", "1"), attr("user.empty", ""), attr("trusted.y", "2")),
				reg("cap3", "", attr("security.capability", capV3)),
				reg("drop", "", attr("trusted.overlay.redirect", "/etc"), attr("user.overlay.opaque", "y"), attr("trusted.overlay.metacopy", ""),
					attr("security.selinux", "system_u"), attr("security.ima", "x"), attr("system.nfs4_acl", "x"), attr("lustre.x", "y")),
				reg("acl", "", attr("system.posix_acl_access", acl), mode(0o640)),
				dir("dacl", attr("system.posix_acl_default", acl), attr("user.d", "d")),
				symlink("l", "x", attr("user.x", "1"), attr("trusted.y", "2")),
				fifo("p", attr("user.x", "1")),
				reg("twice", "", attr("user.x", "1"), attr("user.empty", ""), attr("trusted.y", "2"), attr("user.big", strings.Repeat("v", 500))),
				reg("thrice", "", attr("user.big", strings.Repeat("v", 500))),
			),
			want: []string{
				`f acl 640 0:0 "" system.posix_acl_access=` + quoted(acl),
				`f cap 644 0:0 "" security.capability=` + quoted(capV2) + ` trusted.y="2" user.empty="" user.x="1"`,
				`f cap3 644 0:0 "" security.capability=` + quoted(capV3),
				`d dacl 755 0:0 system.posix_acl_default=` + quoted(acl) + ` user.d="d"`,
				`f drop 644 0:0 ""`,
				`l l 777 0:0 -> x trusted.y="2"`,
				`p p 600 0:0`,
				`f thrice 644 0:0 "" user.big=` + quoted(strings.Repeat("v", 500)),
				`f twice 644 0:0 "" trusted.y="2" user.big=` + quoted(strings.Repeat("v", 500)) + ` user.empty="" user.x="1"`,
			},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, res := writeLayer(t, c.tar, Options{})
			if diff := cmp.Diff(c.implied, res.Implied); diff != "" {
				t.Errorf("implied (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.lower, res.LowerLinks); diff != "" {
				t.Errorf("links out of the layer (-want +got):\n%s", diff)
			}
			if res.Opaque != c.opaque {
				t.Errorf("opaque %v", res.Opaque)
			}
			image := listImage(t, f)
			want := map[string]bool{}
			root := false
			for _, w := range c.want {
				want[w] = true
				root = root || strings.HasPrefix(w, "d . ")
			}
			for _, got := range image {
				if s := got.String(); !want[s] && (got.Path != "." || root) {
					t.Errorf("has   %s", s)
				} else {
					delete(want, s)
				}
			}
			for w := range want {
				t.Errorf("lacks %s", w)
			}
			check(t, f, res, c.tar)
			compare(t, image, listDir(t, mount(t, f)))
		})
	}
}

// compare compares two lists of one tree.
func compare(t testing.TB, want, got []file) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
