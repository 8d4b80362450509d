package ignore

import (
	"fmt"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/moby/patternmatcher"
)

// both asks our matcher and moby's of every prefix of path, as a walk does.
func both(t *testing.T, patterns []string, file string) (got, want bool) {
	t.Helper()
	ours, err := New(patterns)
	theirs, err2 := patternmatcher.New(patterns)
	if (err != nil) && (err2 == nil) {
		// What we refuse at once, theirs refuses when it is asked: which need not be at all.
		return false, false
	}
	if err2 != nil {
		if err == nil {
			t.Fatalf("%q: theirs says %v, ours nothing", patterns, err2)
		}
		return false, false
	}
	var parent Parent
	var info patternmatcher.MatchInfo
	for i := 0; i <= len(file); i++ {
		if i < len(file) && file[i] != '/' {
			continue
		}
		got, parent = ours.Match(file[:i], parent)
		want, info, err = theirs.MatchesUsingParentResults(file[:i], info)
		if err != nil {
			t.Fatalf("%q of %q: theirs says %v, ours nothing", patterns, file, err)
		}
		if got != want {
			t.Fatalf("%q of %q: got %v, want %v", patterns, file[:i], got, want)
		}
	}
	return got, want
}

func TestLikeMoby(t *testing.T) {
	patterns := []string{
		"a", "a/b", "*.md", "**/*.md", "**", "**/a", "a/**", "a/**/b", "**/a/**", "a*", "a?b", "?", "*", "*/*", "[ab]", "[^a]x", "a\\*", "a.b", "**a", "a**",
		"é", "**/é", "é*", "*é", "a[", "a]", "^a", "a^*", "**/^a", "*.*", "a/*/c", "**/b/*", "**/**/c", "a/b/../c", "/a", "a/", ".", "*x*y*", "a**b", "a***b", "**/", "***",
		"!a", "!**/b", "node_modules", "**/node_modules", "*€??", "?*?", "a**/b", "a\\", "\\a", "a\nb", "*\n*", "**/\n",
	}
	files := []string{
		"a", "b", "a/b", "a/b/c", "x.md", "d/x.md", "d/e/x.md", "axb", "ab", "a*", "a.b", "acb", "node_modules/x", "x/node_modules/y/z", "é", "d/é", "éa", "aé",
		"^a", "a^x", "[", "a]", "xxyy", "x/y", "a/b/x/c", "€", "a\nb", "d\n/b/c", "a/b\n/b", "\\a", "a\\",
	}
	for _, p := range patterns {
		for _, f := range files {
			both(t, []string{p}, f)
			for _, q := range patterns {
				both(t, []string{"*", "!" + strings.TrimPrefix(p, "!"), q}, f)
			}
		}
	}
}

func TestMayHold(t *testing.T) {
	for _, c := range []struct {
		patterns string
		dir      string
		want     bool
	}{
		{"a", "a", false},
		{"a !b", "a", false},
		{"a !a/b", "a", true},
		{"a !a/b/c", "a/b", true},
		{"a !a/b/c", "a/x", false},
		{"a !**/c", "a", true},
		{"* !x*", "xy", true},
	} {
		m, err := New(strings.Fields(c.patterns))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.MayHold(c.dir); got != c.want {
			t.Errorf("%s of %s: %v", c.patterns, c.dir, got)
		}
	}
}

func FuzzLikeMoby(f *testing.F) {
	f.Add("*\n!a/**\n**/*.md", "a/b/c.md")
	f.Add("a**b\n[a-c]?", "a/xb")
	f.Fuzz(func(t *testing.T, patterns, file string) {
		if len(patterns) > 200 || len(file) > 200 || !utf8.ValidString(patterns) {
			return
		}
		clean := strings.TrimPrefix(path.Clean("/"+file), "/")
		if clean == "" || clean != file {
			return
		}
		// text/scanner, which theirs reads patterns with, drops a byte order mark.
		if strings.ContainsAny(patterns, "\x00\ufeff\ufffd") {
			return
		}
		ps := strings.Split(patterns, "\n")
		if m, err := New(ps); err == nil {
			checkMayHold(t, m, ps, file)
		}
		both(t, ps, file)
	})
}

// checkMayHold: nothing that is let in is below a directory that was said to hold nothing.
func checkMayHold(t *testing.T, m *Matcher, patterns []string, file string) {
	var parent Parent
	closed := ""
	for i := 0; i <= len(file); i++ {
		if i < len(file) && file[i] != '/' {
			continue
		}
		hit, p := m.Match(file[:i], parent)
		parent = p
		if closed != "" && !hit {
			t.Fatalf("%q: %q is let in, below %q", patterns, file[:i], closed)
		}
		if hit && closed == "" && !m.MayHold(file[:i]) {
			closed = file[:i]
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	var ps []string
	for i := range 12 {
		ps = append(ps, fmt.Sprintf("dir%d", i))
	}
	ps = append(ps, "**/*.md", "**/node_modules", "*.log", "build/**", "**/.git", "!README.md", ".env*", "**/*_test.go")
	m, err := New(ps)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for range 10300 {
			m.Match("some/where/in/the/tree/file.go", Parent{})
		}
	}
}
