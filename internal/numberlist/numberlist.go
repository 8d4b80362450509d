// Package numberlist reads lists of processors and memory nodes.
//
// It owns nothing. It promises that a list that it reads is within its bound, so that it can be counted through. It
// must not know which numbers there are on this machine.
package numberlist

import (
	"strconv"
	"strings"
)

// Span is the numbers from First to Last.
type Span struct{ First, Last uint64 }

// Parse reads a list like "0-3,6" (cpuset(7), "List format") of numbers below limit; false where it is something else.
func Parse(list string, limit uint64) (spans []Span, ok bool) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 32)
		to, err2 := strconv.ParseUint(last, 10, 32)
		if err != nil || err2 != nil || to < from || to >= limit {
			return nil, false
		}
		spans = append(spans, Span{from, to})
	}
	return spans, true
}
