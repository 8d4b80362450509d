package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// version is one of the API: major is always 1.
type version struct{ major, minor int }

var (
	oldest = version{1, 38}
	newest = version{1, 56} // of github.com/moby/moby/api in go.mod: TestNewest
)

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }
func (v version) less(o version) bool {
	return v.major < o.major || v.major == o.major && v.minor < o.minor
}
func (v version) before(minor int) bool { return v.less(version{1, minor}) }

func parseVersion(s string) (version, error) {
	major, minor, ok := strings.Cut(s, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if !ok || err1 != nil || err2 != nil || a < 0 || b < 0 {
		return version{}, fmt.Errorf("invalid API version %q: expected the like of 1.41: %w", s, errdefs.ErrInvalidArgument)
	}
	return version{a, b}, nil
}

// cutVersion splits "/v1.41/info".
func cutVersion(path string) (text, rest string, ok bool) {
	after, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return "", path, false
	}
	text, rest, ok = strings.Cut(after, "/")
	if !ok || text == "" || strings.Trim(text, "0123456789.") != "" {
		return "", path, false
	}
	return text, "/" + rest, true
}

type versionKey struct{}

// versionOf is what the client speaks.
func versionOf(r *http.Request) version {
	if v, ok := r.Context().Value(versionKey{}).(version); ok {
		return v
	}
	return newest
}
