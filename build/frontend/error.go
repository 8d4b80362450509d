package frontend

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	bkerrdefs "github.com/moby/buildkit/solver/errdefs"
)

// Error is what is wrong with a Dockerfile, as one sentence.
type Error struct {
	File string
	Line int    // from 1; 0 where it is about the whole file
	Word string // of the line; "" where none stands out
	Text string
	err  error
}

// Error is "File:Line: sentence".
func (e *Error) Error() string {
	text := e.Text
	if e.Word != "" && !strings.Contains(text, e.Word) {
		text += fmt.Sprintf(", at %q", e.Word)
	}
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, text)
	}
	return fmt.Sprintf("%s: %s", e.File, text)
}

// Unwrap keeps the kind.
func (e *Error) Unwrap() []error {
	for _, is := range []func(error) bool{errdefs.IsNotFound, errdefs.IsUnauthorized, errdefs.IsPermissionDenied, errdefs.IsUnavailable, errdefs.IsInvalidArgument, errdefs.IsNotImplemented} {
		if is(e.err) {
			return []error{e.err}
		}
	}
	return []error{e.err, errdefs.ErrInvalidArgument}
}

// noise is what BuildKit puts before a sentence that names file and line already, or that tells of its
// own workings.
var noise = regexp.MustCompile(`^(dockerfile parse error on line \d+: |failed to parse dockerfile: |failed to process "[^"]*": |failed to resolve source metadata for \S+: |failed to read dockerfile: |failed to resolve dockerfile: |failed to read dockerignore patterns: )`)

// explain makes one sentence of what the front end says.
func explain(err error, dockerfile string) error {
	e := &Error{File: dockerfile, Text: sentence(err), err: err}
	if src := bkerrdefs.Sources(err); len(src) > 0 {
		s := src[0] // the innermost
		if name := s.GetInfo().GetFilename(); name != "" {
			e.File = name
		}
		e.Line, e.Word = point(s, e.Text)
	}
	if e.Line == 0 && errors.Is(err, fs.ErrNotExist) {
		e.Text = "there is no such file in the build context (name another with -f)"
	}
	return e
}

func sentence(err error) string {
	var img *imageError
	if errors.As(err, &img) {
		return img.Error()
	}
	text := err.Error()
	for {
		loc := noise.FindStringIndex(text)
		if loc == nil {
			break
		}
		text = text[loc[1]:]
	}
	text, _, _ = strings.Cut(text, "\n")
	return strings.TrimSpace(text)
}

// point finds line and word. The front end knows lines only: of the words of its lines the one that
// the sentence repeats is meant, the longest if there are several.
func point(s *bkerrdefs.Source, text string) (line int, word string) {
	lines := strings.Split(string(s.GetInfo().GetData()), "\n")
	said := map[string]bool{}
	for w := range words(text) {
		said[strings.TrimRight(w, ".:;")] = true
	}
	for _, r := range s.GetRanges() {
		first, last := int(r.GetStart().GetLine()), int(r.GetEnd().GetLine())
		for n := first; n <= max(first, last) && n >= 1 && n <= len(lines); n++ {
			if line == 0 {
				line = n
			}
			for w := range words(lines[n-1]) {
				if len(w) > len(word) && said[w] {
					line, word = n, w
				}
			}
		}
	}
	if word == "" && line > 0 {
		if f := strings.Fields(lines[line-1]); len(f) > 0 {
			word = f[0]
		}
	}
	return line, word
}

func words(s string) iter.Seq[string] {
	return strings.FieldsFuncSeq(s, func(c rune) bool { return strings.ContainsRune(" \t=,\"'()", c) })
}
