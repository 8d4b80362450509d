package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/berth-engine/berth/registry"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	registrytypes "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// truth is Docker's reading of a boolean: everything but "", "0", "no", "false" and "none" is true.
func truth(q url.Values, name string, otherwise bool) bool {
	if !q.Has(name) {
		return otherwise
	}
	switch strings.ToLower(strings.TrimSpace(q.Get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

func number(q url.Values, name string) (n int, given bool, err error) {
	text := q.Get(name)
	if text == "" {
		return 0, false, nil
	}
	n, err = strconv.Atoi(text)
	if err != nil {
		return 0, false, fmt.Errorf("%s=%q is not a number: %w", name, text, errdefs.ErrInvalidArgument)
	}
	return n, true, nil
}

// moment reads seconds since 1970, with a fraction, or a date.
func moment(text string) (time.Time, error) {
	if text == "" || text == "0" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	whole, fraction, _ := strings.Cut(text, ".")
	s, err := strconv.ParseInt(whole, 10, 64)
	var ns int64
	if err == nil && fraction != "" {
		ns, err = strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid time %q: expected seconds since 1970 or the like of 2006-01-02T15:04:05Z: %w", text, errdefs.ErrInvalidArgument)
	}
	return time.Unix(s, ns), nil
}

// platform reads "linux/arm64" or JSON; nil where nothing was given.
func platform(text string) (*ocispec.Platform, error) {
	if text == "" {
		return nil, nil
	}
	if strings.HasPrefix(text, "{") {
		var p ocispec.Platform
		return &p, unmarshal([]byte(text), &p)
	}
	p, err := platforms.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("invalid platform %q: %w: %w", text, err, errdefs.ErrInvalidArgument)
	}
	return &p, nil
}

// credentials reads X-Registry-Auth: one credential, for whichever registry is asked.
func credentials(header string) (registry.Credentials, error) {
	if header == "" {
		return nil, nil
	}
	c, err := authConfig(header)
	if err != nil {
		return nil, err
	}
	cred := credential(c)
	if cred == (registry.Credential{}) {
		return nil, nil
	}
	return constant(cred), nil
}

func authConfig(header string) (registrytypes.AuthConfig, error) {
	var c registrytypes.AuthConfig
	b, err := base64.URLEncoding.DecodeString(header)
	if err != nil {
		b, err = base64.RawURLEncoding.DecodeString(header)
	}
	if err == nil && len(b) > 0 {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return c, fmt.Errorf("invalid X-Registry-Auth header: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return c, nil
}

func credential(c registrytypes.AuthConfig) registry.Credential {
	return registry.Credential{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}
}

func constant(c registry.Credential) registry.Credentials {
	return func(context.Context, string) (registry.Credential, error) { return c, nil }
}

// filters are those of a list: a set of values by name.
type filters map[string]map[string]bool

// readFilters reads the parameter "filters": {"name":{"a":true}}, or of old clients {"name":["a"]}.
// known are the names that make sense.
func readFilters(r *http.Request, known ...string) (filters, error) {
	text := r.URL.Query().Get("filters")
	if text == "" {
		return nil, nil
	}
	f := filters{}
	if json.Unmarshal([]byte(text), &f) != nil {
		var old map[string][]string
		if err := json.Unmarshal([]byte(text), &old); err != nil {
			return nil, fmt.Errorf("invalid filters %q: %w: %w", text, err, errdefs.ErrInvalidArgument)
		}
		f = filters{}
		for name, values := range old {
			f[name] = map[string]bool{}
			for _, v := range values {
				f[name][v] = true
			}
		}
	}
	for name := range f {
		found := false
		for _, k := range known {
			found = found || k == name
		}
		if !found {
			return nil, fmt.Errorf("invalid filter '%s': %w", name, errdefs.ErrInvalidArgument)
		}
	}
	return f, nil
}

// any tells whether match is true of one of a filter's values, or there is no such filter.
func (f filters) any(name string, match func(value string) bool) bool {
	values := f[name]
	if len(values) == 0 {
		return true
	}
	for v, on := range values {
		if on && match(v) {
			return true
		}
	}
	return false
}

// exactly: any, by equality.
func (f filters) exactly(name, value string) bool {
	return f.any(name, func(v string) bool { return v == value })
}

// boolean reads a filter that is true or false; given tells whether it was.
func (f filters) boolean(name string) (value, given bool, err error) {
	for v := range f[name] {
		switch strings.ToLower(v) {
		case "1", "true", "t":
			return true, true, nil
		case "0", "false", "f":
			return false, true, nil
		}
		return false, false, fmt.Errorf("invalid filter '%s=%s': expected true or false: %w", name, v, errdefs.ErrInvalidArgument)
	}
	return false, false, nil
}

// labels tells whether all that the filter "label" (or, with "label!", none) says is true of labels.
func (f filters) labels(labels map[string]string) bool {
	has := func(v string) bool {
		k, want, valued := strings.Cut(v, "=")
		got, ok := labels[k]
		return ok && (!valued || got == want)
	}
	for v := range f["label"] {
		if !has(v) {
			return false
		}
	}
	for v := range f["label!"] {
		if has(v) {
			return false
		}
	}
	return true
}

// until reads the filter "until": the time before which things are meant; zero where it isn't there.
func (f filters) until() (time.Time, error) {
	for v := range f["until"] {
		if d, err := time.ParseDuration(v); err == nil {
			return time.Now().Add(-d), nil
		}
		return moment(v)
	}
	return time.Time{}, nil
}

// glob is the pattern language of the filter "reference".
func glob(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
