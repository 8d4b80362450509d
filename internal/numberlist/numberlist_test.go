package numberlist

import (
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	for list, want := range map[string][]Span{
		"0": {{0, 0}}, "0-3,6": {{0, 3}, {6, 6}}, "7": {{7, 7}}, "2,2": {{2, 2}, {2, 2}},
		"": nil, "8": nil, "0-8": nil, "3-1": nil, "-1": nil, "1-": nil, "0,,1": nil, "a": nil, " 1": nil, "4294967296": nil, "0-3-5": nil,
	} {
		got, ok := Parse(list, 8)
		if ok != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", list, got, ok)
		}
	}
}
