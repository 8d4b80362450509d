package ignore

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Matcher holds a path against a list of patterns. It may be used concurrently.
type Matcher struct {
	patterns []pattern
	negates  bool
}

type pattern struct {
	negate bool // "!": what it matches is let in again
	match  func(path string) bool
	prefix string // every path that matches begins with it
}

// Parent is what the patterns said of a path's directory. The zero Parent is the root's.
type Parent struct{ matched []bool }

// New compiles patterns, as the lines of a .dockerignore file are after it was parsed.
func New(patterns []string) (*Matcher, error) {
	m := &Matcher{}
	for _, p := range patterns {
		text := strings.TrimSpace(p)
		if text == "" {
			continue
		}
		text = filepath.Clean(text)
		var c pattern
		if text[0] == '!' {
			if text == "!" {
				return nil, errors.New(`illegal exclusion pattern: "!"`)
			}
			c.negate, m.negates = true, true
			text = text[1:]
		}
		if _, err := filepath.Match(text, "."); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p, err)
		}
		var err error
		if c.match, err = compile(text); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p, err)
		}
		if i := strings.IndexAny(text, `*?[]\^|{}`); i >= 0 {
			c.prefix = text[:i]
		} else {
			c.prefix = text
		}
		if strings.Contains(text, "|") { // an alternative, by an oddity that compile keeps
			c.prefix = ""
		}
		m.patterns = append(m.patterns, c)
	}
	return m, nil
}

// Empty says whether nothing can match.
func (m *Matcher) Empty() bool { return len(m.patterns) == 0 }

// Match says whether path (clean, relative) matches the list: whether the last pattern that matches it
// or one of its directories is not negated. The second result is for what is in path, if it is a
// directory.
func (m *Matcher) Match(path string, parent Parent) (bool, Parent) {
	if len(m.patterns) == 0 {
		return false, Parent{}
	}
	here := make([]bool, len(m.patterns))
	matched := false
	for i := range m.patterns {
		p := &m.patterns[i]
		hit := parent.matched != nil && parent.matched[i]
		if !hit {
			// Without effect on the result: it is not asked, and what is below asks again.
			if p.negate != matched {
				continue
			}
			hit = p.match(path)
		}
		here[i] = hit
		if hit {
			matched = !p.negate
		}
	}
	return matched, Parent{here}
}

// MayHold says whether something below dir, which matches, may not match.
func (m *Matcher) MayHold(dir string) bool {
	if !m.negates {
		return false
	}
	for i := range m.patterns {
		p := &m.patterns[i]
		if !p.negate {
			continue
		}
		if strings.HasPrefix(dir, p.prefix) || strings.HasPrefix(p.prefix, dir) {
			return true
		}
	}
	return false
}
