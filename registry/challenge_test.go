package registry

import (
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestParseChallenges(t *testing.T) {
	type m = map[string]string
	for _, tt := range []struct {
		header string
		want   []challenge
	}{
		{`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull"`,
			[]challenge{{"bearer", m{"realm": "https://auth.docker.io/token", "service": "registry.docker.io", "scope": "repository:library/alpine:pull"}}}},
		{`BEARER Realm = "x" , Service= "a, b"`, []challenge{{"bearer", m{"realm": "x", "service": "a, b"}}}},
		{`Basic realm="a \"b\" \\c", Bearer realm=https://x/y?z=1,scope="a:b:c d:e:f"`,
			[]challenge{{"basic", m{"realm": `a "b" \c`}}, {"bearer", m{"realm": "https://x/y?z=1", "scope": "a:b:c d:e:f"}}}},
		{`Negotiate, Basic`, []challenge{{"negotiate", m{}}, {"basic", m{}}}},
		{`Basic realm="not closed`, []challenge{{"basic", m{"realm": "not closed"}}}},
		{`Bearer realm="first",realm="second"`, []challenge{{"bearer", m{"realm": "first"}}}},
		{`realm="of nobody"`, []challenge{{"realm", m{}}, {"of", m{}}, {"nobody", m{}}}},
		{``, nil}, {`,,,`, nil}, {`"`, nil}, {`=`, nil},
	} {
		if got := parseChallenges(tt.header); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s\n got %q\nwant %q", tt.header, got, tt.want)
		}
	}
	if _, ok := pick(parseChallenges(`Bearer service="no realm", Negotiate`)); ok {
		t.Error("a challenge without a token server was picked")
	}
	if got, ok := pick(parseChallenges(`Basic realm="x", Bearer realm="https://y"`)); !ok || got.scheme != "bearer" {
		t.Errorf("%v", got)
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull"`)
	f.Add(`Basic realm="a \"b\" \\c", Bearer realm=https://x/y?z=1`)
	f.Add(`Negotiate abc==, Digest qop="auth, auth-int"`)
	f.Fuzz(func(t *testing.T, header string) {
		for _, c := range parseChallenges(header) {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) || strings.ContainsAny(c.scheme, ` ",=`) {
				t.Errorf("scheme %q", c.scheme)
			}
			// What is written by the grammar is read as it was meant.
			text := c.scheme
			for k, v := range c.params {
				text += ` ,` + k + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
			}
			again := parseChallenges(text)
			if len(again) != 1 || !reflect.DeepEqual(again[0], c) {
				t.Errorf("%q became %q by way of %s", c, again, text)
			}
			pick([]challenge{c})
		}
	})
}

func TestMergeScopes(t *testing.T) {
	got := mergeScopes([]string{"repository:b:pull", "repository:a:push,pull"}, []string{"repository:b:pull,delete", "registry:catalog:*", "odd"})
	want := []string{"odd", "registry:catalog:*", "repository:a:pull,push", "repository:b:delete,pull"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	// A host with a port in the name of a repository.
	if got := mergeScopes([]string{"repository:localhost:5000/a:pull", "repository:localhost:5000/a:push"}); !slices.Equal(got, []string{"repository:localhost:5000/a:pull,push"}) {
		t.Errorf("%q", got)
	}
}

func TestParseToken(t *testing.T) {
	now := time.Unix(1000, 0)
	for body, want := range map[string]token{
		`{"token":"a"}`:                       {access: "a", expires: now.Add(55 * time.Second)},
		`{"access_token":"a","token":""}`:     {access: "a", expires: now.Add(55 * time.Second)},
		`{"token":"a","expires_in":1}`:        {access: "a", expires: now.Add(55 * time.Second)},
		`{"token":"a","expires_in":300}`:      {access: "a", expires: now.Add(295 * time.Second)},
		`{"token":"a","expires_in":1e300}`:    {access: "a", expires: now.Add(24*time.Hour - 5*time.Second)},
		`{"token":"a","refresh_token":"r"}`:   {access: "a", refresh: "r", expires: now.Add(55 * time.Second)},
		`{"token":"a\r\nX-Injected: header"}`: {}, `{"token":""}`: {}, `{}`: {}, ``: {}, `[]`: {}, `{"token":1}`: {},
	} {
		got, ok := parseToken([]byte(body), now)
		if got != want || ok != (want.access != "") {
			t.Errorf("%s: %+v %v", body, got, ok)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add([]byte(`{"token":"a","expires_in":300,"refresh_token":"r"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		now := time.Unix(1000, 0)
		got, ok := parseToken(body, now)
		if ok && (strings.ContainsAny(got.access, "\r\n ") || got.expires.Before(now) || got.expires.After(now.Add(24*time.Hour))) {
			t.Errorf("%+v", got)
		}
	})
}

func TestParseErrorBody(t *testing.T) {
	for body, want := range map[string][2]string{
		`{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}`: {"DENIED", "no"},
		`{"details":"incorrect username or password"}`:               {"", "incorrect username or password"},
		`{"error":"invalid_grant","error_description":"expired"}`:    {"", "expired"},
		`{"error":{"code":1}}`:                                       {"", ""},
		`plain words` + "\x1b[1m\n":                                  {"", "plain words [1m"},
		`<html><body>502</body></html>`:                              {"", ""},
		strings.Repeat("é", 400):                                     {"", strings.Repeat("é", 300) + "…"},
		``:                                                           {"", ""},
		"{\"message\":\"a\u0085b\\u0000\"}":                          {"", "ab"},
	} {
		if code, message := parseErrorBody([]byte(body)); code != want[0] || message != want[1] {
			t.Errorf("%.60q: %q %q", body, code, message)
		}
	}
}
