package session

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func encode(entries []Entry) []byte {
	var b []byte
	prev := &Entry{}
	for i := range entries {
		b = AppendEntry(b, &entries[i], prev)
		prev = &entries[i]
	}
	return b
}

func file(path string) Entry {
	return Entry{Path: path, Mode: ModeReg | 0o644, Size: 3, Mtime: 1e18, Ctime: 1e18 + 5, Inode: 77}
}
func dir(path string) Entry { return Entry{Path: path, Mode: ModeDir | 0o755} }

func TestListRoundTrip(t *testing.T) {
	want := []Entry{
		dir("a"), file("a/b"), file("a/c"), file("a-b"),
		{Path: "d", Mode: ModeReg | 0o4755, Hardlink: "a/b"},
		{Path: "dev", Mode: ModeChar | 0o600, Rdev: 259},
		{Path: "l", Mode: ModeLink | 0o777, Link: "../a", Mtime: -5},
		{Path: "x", Mode: ModeReg, Xattrs: []Xattr{{"security.capability", "\x01\x00\x00\x02" + strings.Repeat("\x00", 16)}, {"user.a", ""}}},
	}
	got, err := DecodeList(encode(want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\n%+v\n%+v", err, got, want)
	}
}

func TestListRefusals(t *testing.T) {
	for name, list := range map[string][]Entry{
		"out of the root":   {file("..")},
		"absolute":          {file("/etc/passwd")},
		"dot":               {file("./a")},
		"empty component":   {dir("a"), file("a//b")},
		"no parent":         {file("a/b")},
		"parent is a file":  {file("a"), file("a/b")},
		"parent is a link":  {{Path: "a", Mode: ModeLink, Link: "/etc"}, file("a/b")},
		"twice":             {file("a"), file("a")},
		"order":             {file("b"), file("a")},
		"order by bytes":    {dir("a"), file("a-b"), file("a/b")},
		"long name":         {file(strings.Repeat("x", 256))},
		"socket":            {{Path: "s", Mode: 0o140644}},
		"no type":           {{Path: "s", Mode: 0o644}},
		"link without":      {{Path: "s", Mode: ModeLink}},
		"file with link":    {{Path: "s", Mode: ModeReg, Link: "x"}},
		"hard link forward": {{Path: "a", Mode: ModeReg, Hardlink: "b"}, file("b")},
		"hard link to dir":  {dir("a"), {Path: "b", Mode: ModeReg, Hardlink: "a"}},
		"sized directory":   {{Path: "a", Mode: ModeDir, Size: 1}},
		"NUL":               {file("a\x00b")},
		"overlay attribute": {{Path: "a", Mode: ModeDir, Xattrs: []Xattr{{"user.overlay.opaque", "y"}}}},
		"trusted attribute": {{Path: "a", Mode: ModeDir, Xattrs: []Xattr{{"trusted.overlay.redirect", "/etc"}}}},
		"attributes' order": {{Path: "a", Mode: ModeDir, Xattrs: []Xattr{{"user.b", ""}, {"user.a", ""}}}},
	} {
		if _, err := DecodeList(encode(list)); !errors.Is(err, ErrList) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestComparePaths(t *testing.T) {
	want := []string{"a", "a/b", "a/b/c", "a/b-c", "a/c", "a-b", "a.b", "ab", "b"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, ComparePaths)
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func FuzzDecodeList(f *testing.F) {
	f.Add(encode([]Entry{dir("a"), file("a/b"), {Path: "l", Mode: ModeLink, Link: "a"}}))
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := DecodeList(b)
		if err != nil {
			return
		}
		again, err := DecodeList(encode(list))
		if err != nil || !reflect.DeepEqual(list, again) {
			t.Fatalf("not the same after encoding: %v", err)
		}
	})
}
