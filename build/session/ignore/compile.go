package ignore

import (
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// compile gives a function that matches as patternmatcher's Pattern does, its oddities included.
func compile(p string) (func(string) bool, error) {
	if odd(p) {
		return compileRegexp(p)
	}
	if !strings.ContainsAny(p, "*?") {
		return func(path string) bool { return path == p }, nil
	}
	if rest, ok := strings.CutPrefix(p, "**"); ok && !strings.ContainsAny(rest, "*?") {
		return suffix(rest), nil
	}
	if i := strings.IndexAny(p, "*?"); strings.HasPrefix(p[i:], "**") && len(p) == i+2 {
		return func(path string) bool { return strings.HasPrefix(path, p[:i]) }, nil
	}
	return tokens(p), nil
}

// odd says whether a pattern has what only a regular expression matches as patternmatcher does.
func odd(p string) bool {
	for i := range len(p) {
		if c := p[i]; c == 0 || c >= utf8.RuneSelf || strings.IndexByte(`[]\^|{}`, c) >= 0 {
			return true
		}
	}
	return false
}

// suffix matches "**" + rest.
func suffix(rest string) func(string) bool {
	return func(path string) bool {
		return strings.HasSuffix(path, rest) || len(rest) > 0 && rest[0] == '/' && path == rest[1:]
	}
}

type kind byte

const (
	literal kind = iota // the text
	one                 // "?": one character but "/"
	some                // "*": any number of them
	dirs                // "**" and "**/": nothing, or anything that ends in "/"
	rest                // "**" at the end
)

type token struct {
	kind kind
	text string
}

func tokens(p string) func(string) bool {
	var ts []token
	for len(p) > 0 {
		switch {
		case strings.HasPrefix(p, "**"):
			p = strings.TrimPrefix(p[2:], "/")
			if p == "" {
				ts = append(ts, token{kind: rest})
			} else {
				ts = append(ts, token{kind: dirs})
			}
		case p[0] == '*':
			ts, p = append(ts, token{kind: some}), p[1:]
		case p[0] == '?':
			ts, p = append(ts, token{kind: one}), p[1:]
		default:
			n := strings.IndexAny(p, "*?")
			if n < 0 {
				n = len(p)
			}
			ts, p = append(ts, token{literal, p[:n]}), p[n:]
		}
	}
	return func(path string) bool { return match(ts, path) }
}

func match(ts []token, s string) bool {
	for len(ts) > 0 {
		t := ts[0]
		ts = ts[1:]
		switch t.kind {
		case literal:
			if !strings.HasPrefix(s, t.text) {
				return false
			}
			s = s[len(t.text):]
		case one:
			_, n := utf8.DecodeRuneInString(s)
			if n == 0 || s[0] == '/' {
				return false
			}
			s = s[n:]
		case some:
			return matchSome(ts, s)
		case dirs:
			return matchDirs(ts, s)
		case rest:
			return !strings.Contains(s, "\n") // "." of a regular expression
		}
	}
	return s == ""
}

func matchSome(ts []token, s string) bool {
	if len(ts) == 1 && ts[0].kind == literal && !strings.Contains(ts[0].text, "/") { // *.ext
		return strings.HasSuffix(s, ts[0].text) && strings.IndexByte(s, '/') < 0
	}
	for {
		if match(ts, s) {
			return true
		}
		_, n := utf8.DecodeRuneInString(s)
		if n == 0 || s[0] == '/' {
			return false
		}
		s = s[n:]
	}
}

func matchDirs(ts []token, s string) bool {
	for {
		if match(ts, s) {
			return true
		}
		n := strings.IndexByte(s, '/')
		if n < 0 || strings.Contains(s[:n], "\n") {
			return false
		}
		s = s[n+1:]
	}
}

// compileRegexp translates as patternmatcher does, character by character (which leaves |, { and } alone).
func compileRegexp(p string) (func(string) bool, error) {
	var re strings.Builder
	re.WriteByte('^')
	wild, deepFirst := false, false
	rs := []rune(p)
	for i := 0; i < len(rs); i++ {
		c := rs[i]
		switch {
		case c == '*' && i+1 < len(rs) && rs[i+1] == '*':
			first := i == 0
			i++
			if i+1 < len(rs) && rs[i+1] == '/' {
				i++
			}
			switch {
			case i+1 == len(rs) && !wild && !deepFirst && !first: // "x**": a plain prefix
				return func(path string) bool { return strings.HasPrefix(path, strings.TrimSuffix(p, "**")) }, nil
			case i+1 == len(rs):
				re.WriteString(".*")
				wild = true
			default:
				re.WriteString("(.*/)?")
				wild = true
			}
			if first {
				wild, deepFirst = false, true
			}
		case c == '*':
			re.WriteString("[^/]*")
			wild = true
		case c == '?':
			re.WriteString("[^/]")
			wild = true
		case strings.ContainsRune(".+()$", c):
			re.WriteByte('\\')
			re.WriteRune(c)
		case c == '\\':
			if i+1 == len(rs) {
				re.WriteByte('\\')
				break
			}
			i++
			re.WriteByte('\\')
			re.WriteRune(rs[i])
			wild = true
		case c == '[' || c == ']':
			re.WriteRune(c)
			wild = true
		default:
			re.WriteRune(c)
		}
	}
	switch {
	case !wild && deepFirst:
		return suffix(strings.TrimPrefix(p, "**")), nil
	case !wild:
		return func(path string) bool { return path == p }, nil
	}
	re.WriteByte('$')
	x, err := regexp.Compile(re.String())
	if err != nil {
		return nil, filepath.ErrBadPattern
	}
	return x.MatchString, nil
}
