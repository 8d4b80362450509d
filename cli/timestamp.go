package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// timestamp turns what a user writes as a time into seconds since 1970, with nanoseconds behind a
// point, as the API wants it: a duration before now ("10m"), a date with or without time and zone, or
// seconds since 1970. Empty stays empty.
func timestamp(v string, now time.Time) (string, error) {
	if v == "" {
		return "", nil
	}
	if d, err := time.ParseDuration(v); err == nil {
		return unixText(now.Add(-d)), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02Z07:00", "2006-01-02",
	} {
		if t, err := time.ParseInLocation(layout, v, now.Location()); err == nil {
			return unixText(t), nil
		}
	}
	seconds, nanos, _ := strings.Cut(v, ".")
	if _, err := strconv.ParseInt(seconds, 10, 64); err == nil {
		if _, err := strconv.ParseUint("0"+nanos, 10, 64); err == nil {
			return v, nil
		}
	}
	return "", fmt.Errorf("%q is neither a time such as 2026-01-02T15:04:05 nor a duration such as 10m", v)
}

func unixText(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
