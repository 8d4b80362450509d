package format

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
)

// ShortID is the twelve characters of an ID that tables show, without the digest's algorithm.
func ShortID(id string) string {
	if _, hex, ok := strings.Cut(id, ":"); ok {
		id = hex
	}
	if len(id) > 12 {
		id = id[:12]
	}
	return id
}

// Ellipsis cuts s to width characters, the last of them "…".
func Ellipsis(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// Ago says how long before now it was: "3 hours ago".
func Ago(t, now time.Time) string { return units.HumanDuration(now.Sub(t)) + " ago" }

// Size says a number of bytes as Docker's tables do: "1.23MB".
func Size(bytes int64) string { return units.HumanSizeWithPrecision(float64(bytes), 3) }

// Labels joins labels: "a=b,c=d", sorted.
func Labels(m map[string]string) string {
	parts := make([]string, 0, len(m))
	for k, v := range m {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
