package registry

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// TestTags: all pages, however the registry says where the next one is.
func TestTags(t *testing.T) {
	for name, link := range map[string]func(host, last string) string{
		"relative":   func(_, last string) string { return fmt.Sprintf(`</v2/a/b/tags/list?last=%s&n=2>; rel="next"`, last) },
		"query only": func(_, last string) string { return fmt.Sprintf(`<?n=2&last=%s>;rel=next`, last) },
		"absolute": func(host, last string) string {
			return fmt.Sprintf(`<http://%s/v2/a/b/tags/list?last=%s>; rel="next"`, host, last)
		},
		"another scheme": func(host, last string) string {
			return fmt.Sprintf(`<https://%s/v2/a/b/tags/list?last=%s>; rel="next"`, host, last)
		},
		"among others": func(_, last string) string {
			return fmt.Sprintf(`</x>; rel="prev"; title="a,<b>", <?last=%s>; title="c"; rel="last NEXT"`, last)
		},
		"only other links": func(string, string) string { return `</x>; rel="prev"` },
		"no link at all":   func(string, string) string { return "" },
		"an unclosed link": func(string, string) string { return `</v2/a/b/tags/list?last=2; rel="next"` },
		"another host": func(_, last string) string {
			return fmt.Sprintf(`<http://evil.example.com/v2/a/b/tags/list?last=%s>; rel="next"`, last)
		},
		"round and round":   func(string, string) string { return `<?last=2>; rel="next"` },
		"something invalid": func(string, string) string { return `<http://[::1>; rel="next"` },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/v2/a/b/tags/list" {
					return false
				}
				all := []string{"1", "2", "3", "4", "5"}
				from := slices.Index(all, r.URL.Query().Get("last")) + 1
				page := all[from:min(from+2, len(all))]
				if from+2 < len(all) || name == "round and round" {
					if l := link(r.Host, page[len(page)-1]); l != "" {
						w.Header().Set("Link", l)
					}
				}
				fmt.Fprintf(w, `{"name":"a/b","tags":["%s"]}`, strings.Join(page, `","`))
				return true
			}
			host := serveFake(t, f)
			tags, err := newClient(t, Options{}).Tags(t.Context(), named(t, host+"/a/b"))
			want, refused := []string{"1", "2", "3", "4", "5"}, ""
			switch name {
			case "only other links", "no link at all", "an unclosed link":
				want = want[:2]
			case "another host":
				refused = "goes on at another host, evil.example.com"
			case "round and round":
				refused = "comes back to where it was"
			case "something invalid":
				refused = "which is no URL"
			}
			if refused == "" && (err != nil || !slices.Equal(tags, want)) || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
				t.Errorf("%q %v", tags, err)
			}
		})
	}
}

// TestTagsRefusals: what is no list of tags, in sentences.
func TestTagsRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		kind   func(error) bool
		want   string
	}{
		"none":              {200, `{"name":"a/b","tags":null}`, nil, ""},
		"unknown":           {404, `{"errors":[{"code":"NAME_UNKNOWN","message":"unknown"}]}`, errdefs.IsNotFound, "repository does not exist or may require"},
		"no JSON":           {200, `<html>`, errdefs.IsUnavailable, "something else than a list of tags"},
		"a hostile tag":     {200, `{"tags":["../../x"]}`, errdefs.IsInvalidArgument, `lists "../../x", which is no tag`},
		"too much":          {200, `{"tags":["` + strings.Repeat("a", maxTagsPage) + `"]}`, errdefs.IsInvalidArgument, "a page of its list of tags has more than"},
		"needs a login":     {401, ``, errdefs.IsNotFound, "may require 'berth login"},
		"out of order, yet": {503, ``, errdefs.IsUnavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/tags/list") {
					return false
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
				return true
			}
			tags, err := newClient(t, Options{}).Tags(t.Context(), named(t, serveFake(t, f)+"/a/b"))
			if c.kind == nil && (err != nil || len(tags) != 0) || c.kind != nil && (!c.kind(err) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%q %v", tags, err)
			}
		})
	}
}

// TestTagsWithToken: the list needs no more than the right to pull.
func TestTagsWithToken(t *testing.T) {
	f := newFake()
	var asked string
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			asked = r.URL.Query().Get("scope")
			fmt.Fprint(w, `{"token":"t"}`)
		case strings.HasPrefix(r.URL.Path, "/v2/") && r.Header.Get("Authorization") != "Bearer t":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="s"`, r.Host))
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/tags/list"):
			fmt.Fprint(w, `{"tags":["x"]}`)
		default:
			return false
		}
		return true
	}
	tags, err := newClient(t, Options{}).Tags(t.Context(), named(t, serveFake(t, f)+"/a/b"))
	if err != nil || !slices.Equal(tags, []string{"x"}) || asked != "repository:a/b:pull" {
		t.Errorf("%q %v, asked for %q", tags, err, asked)
	}
}

func FuzzNextLink(f *testing.F) {
	for _, s := range []string{`</x>; rel="next"`, `<a>;rel=prev, <b>;rel="x next"`, `<a>; title=",<", <b>`, "<", `<a>;"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if target := nextLink([]string{header}); !strings.Contains(header, "<"+target) && target != "" {
			t.Errorf("%q from %q", target, header)
		}
	})
}
