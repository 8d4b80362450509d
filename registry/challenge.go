package registry

import (
	"net/http"
	"slices"
	"strings"
)

// challenge is one way in which a server offers to be convinced: a WWW-Authenticate challenge
// (RFC 9110, 11.6.1).
type challenge struct {
	scheme string            // lower case
	params map[string]string // keys in lower case
}

// challengesOf returns the challenges of an answer that the client can do something with.
func challengesOf(resp *http.Response) []challenge {
	var all []challenge
	for _, header := range resp.Header.Values("WWW-Authenticate") {
		all = append(all, parseChallenges(header)...)
	}
	return all
}

// pick returns the challenge to answer: Bearer before Basic.
func pick(offers []challenge) (challenge, bool) {
	for _, scheme := range []string{"bearer", "basic"} {
		for _, o := range offers {
			if o.scheme == scheme && (scheme != "bearer" || o.params["realm"] != "") {
				return o, true
			}
		}
	}
	return challenge{}, false
}

// parseChallenges reads a WWW-Authenticate header: `Bearer realm="…",service="…", Basic realm="…"`.
// What it doesn't understand it skips: the header comes from anybody. Of a repeated parameter the first
// counts.
func parseChallenges(header string) []challenge {
	var all []challenge
	s := scanner{header}
	for {
		s.skip(" \t,")
		word := s.token()
		if word == "" {
			if s.rest == "" {
				return all
			}
			s.rest = s.rest[1:]
			continue
		}
		s.skip(" \t")
		if !s.take('=') || len(all) == 0 {
			all = append(all, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
			continue
		}
		s.skip(" \t")
		params := all[len(all)-1].params
		value := s.value()
		if key := strings.ToLower(word); !has(params, key) {
			params[key] = value
		}
	}
}

func has(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}

// scanner eats a header from the left.
type scanner struct{ rest string }

func (s *scanner) skip(chars string) { s.rest = strings.TrimLeft(s.rest, chars) }

func (s *scanner) take(c byte) bool {
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// token eats a token (RFC 9110, 5.6.2).
func (s *scanner) token() string {
	n := 0
	for n < len(s.rest) && isTokenChar(s.rest[n]) {
		n++
	}
	t := s.rest[:n]
	s.rest = s.rest[n:]
	return t
}

func isTokenChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// value eats a quoted string, or, as some servers don't quote, all up to a comma or space.
func (s *scanner) value() string {
	if !s.take('"') {
		n := strings.IndexAny(s.rest, ", \t")
		if n < 0 {
			n = len(s.rest)
		}
		v := s.rest[:n]
		s.rest = s.rest[n:]
		return v
	}
	var v strings.Builder
	for i := 0; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '"':
			s.rest = s.rest[i+1:]
			return v.String()
		case '\\':
			if i+1 < len(s.rest) {
				i++
			}
		}
		v.WriteByte(s.rest[i])
	}
	s.rest = ""
	return v.String()
}

// scopes of a Bearer challenge. One parameter may list several.
func (c challenge) scopes() []string { return strings.Fields(c.params["scope"]) }

// same says whether two challenges are to be answered in the same way, but for the scope.
func (c challenge) same(o challenge) bool {
	return c.scheme == o.scheme && c.params["realm"] == o.params["realm"] && c.params["service"] == o.params["service"]
}

// insufficient says whether the server knew who asked, and wants a token for more.
func (c challenge) insufficient() bool { return c.params["error"] == "insufficient_scope" }

// mergeScopes joins scopes ("repository:library/alpine:pull,push") so that each resource is there once,
// with all its actions, in a fixed order.
func mergeScopes(lists ...[]string) []string {
	actions := map[string][]string{}
	for _, list := range lists {
		for _, scope := range list {
			resource, do := scope, ""
			if i := strings.LastIndexByte(scope, ':'); i > 0 {
				resource, do = scope[:i], scope[i+1:]
			}
			actions[resource] = append(actions[resource], strings.Split(do, ",")...)
		}
	}
	merged := make([]string, 0, len(actions))
	for resource, do := range actions {
		slices.Sort(do)
		merged = append(merged, strings.TrimSuffix(resource+":"+strings.Join(slices.Compact(do), ","), ":"))
	}
	slices.Sort(merged)
	return merged
}

func repositoryScope(path, actions string) string { return "repository:" + path + ":" + actions }
