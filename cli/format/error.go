package format

import (
	"errors"
	"regexp"
)

// templateError is an error of a template in Docker's words, without what is only of this program: the template's
// empty name and the types that values have in Go.
func templateError(err error) error {
	text := err.Error()
	for _, r := range []struct{ from, to string }{ // compiled here: most commands need none
		{`^template: [^:]*:\d+(:\d+)?: `, ""},
		{`^executing "[^"]*" at (<.*?>): `, "at $1: "},
		{`nil pointer evaluating \S*\.(\w+)$`, "can't evaluate field $1: there is nothing that has fields"},
		{`(can't evaluate field \S+) in type .*$`, "$1"},
		{`(has no method or field "[^"]*"|is not a method but has arguments) .*$`, "$1"},
		{`wrong type for value; expected (\S+); got .*$`, "the value is no $1"},
		{`(can't index item of|can't iterate over|can't index|cannot index slice/array with) type \S+$`, "$1 what is there"},
	} {
		text = regexp.MustCompile(r.from).ReplaceAllString(text, r.to)
	}
	return errors.New("template parsing error: " + text)
}
