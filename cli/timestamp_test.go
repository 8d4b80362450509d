package cli

import (
	"testing"
	"time"
)

func TestTimestamp(t *testing.T) {
	zone := time.FixedZone("x", 3600)
	now := time.Date(2026, 1, 2, 3, 4, 5, 600, zone)
	for in, want := range map[string]string{
		"": "", "10m": "1767318845.000000600", "1h30m": "1767314045.000000600", "0s": "1767319445.000000600",
		"1767319445": "1767319445", "1767319445.5": "1767319445.5",
		"2026-01-02T02:04:05Z": "1767319445.000000000", "2026-01-02T03:04:05": "1767319445.000000000", "2026-01-02T03:04:05.000000007+01:00": "1767319445.000000007",
		"2026-01-02": "1767308400.000000000", "2026-01-02T03:04": "1767319440.000000000", "2026-01-02Z": "1767312000.000000000",
	} {
		if got, err := timestamp(in, now); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"yesterday", "10", "1.x", "2026-13-01", "2026-01-02T25:00:00"} {
		if got, err := timestamp(in, now); err == nil && in != "10" {
			t.Errorf("%q: %q", in, got)
		}
	}
}
