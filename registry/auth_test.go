package registry

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// TestServices plays the registries that people use, each with the flow that it documents.
func TestServices(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{3000, 20}})
	for _, tt := range []struct {
		ref, host, repo string
		realm           string // "" for Basic
		issuer          *issuer
		cred            Credential
		credHost        string
		firstToken      string // how the token was asked for
	}{
		{ref: "alpine", host: "registry-1.docker.io", repo: "library/alpine", realm: "https://auth.docker.io/token",
			issuer: &issuer{expires: "300"}, firstToken: "GET svc repository:library/alpine:pull"},
		{ref: "index.docker.io/me/private:v1", host: "registry-1.docker.io", repo: "me/private", realm: "https://auth.docker.io/token",
			issuer: &issuer{users: map[string]string{"me": "secret"}, expires: "300"}, cred: Credential{Username: "me", Password: "secret"},
			credHost: "docker.io", firstToken: "GET svc repository:me/private:pull"},
		{ref: "ghcr.io/o/i:v1", host: "ghcr.io", repo: "o/i", realm: "https://ghcr.io/token",
			issuer: &issuer{users: map[string]string{"me": "pat"}}, cred: Credential{Username: "me", Password: "pat"},
			credHost: "ghcr.io", firstToken: "GET svc repository:o/i:pull"},
		{ref: "quay.io/o/i", host: "quay.io", repo: "o/i", realm: "https://quay.io/v2/auth",
			issuer: &issuer{}, firstToken: "GET svc repository:o/i:pull"},
		{ref: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/i:v1", host: "123456789012.dkr.ecr.eu-west-1.amazonaws.com", repo: "i",
			issuer: &issuer{}, cred: Credential{Username: "AWS", Password: "ecr-password"}, credHost: "123456789012.dkr.ecr.eu-west-1.amazonaws.com"},
		{ref: "europe-docker.pkg.dev/p/r/i:v1", host: "europe-docker.pkg.dev", repo: "p/r/i", realm: "https://europe-docker.pkg.dev/v2/token",
			issuer: &issuer{users: map[string]string{"_json_key": "{…}"}, post: 404}, cred: Credential{Username: "_json_key", Password: "{…}"},
			credHost: "europe-docker.pkg.dev", firstToken: "GET svc repository:p/r/i:pull"},
		{ref: "team.azurecr.io/i:v1", host: "team.azurecr.io", repo: "i", realm: "https://team.azurecr.io/oauth2/token",
			issuer: &issuer{users: map[string]string{}, refresh: "refresh-me", access: true}, cred: Credential{IdentityToken: "refresh-me"},
			credHost: "team.azurecr.io", firstToken: "POST svc repository:i:pull"},
		{ref: "team.azurecr.io/helper:v1", host: "team.azurecr.io", repo: "helper", realm: "https://team.azurecr.io/oauth2/token",
			issuer: &issuer{users: map[string]string{}, refresh: "refresh-me", access: true}, cred: Credential{Username: "<token>", Password: "refresh-me"},
			credHost: "team.azurecr.io", firstToken: "POST svc repository:helper:pull"},
		{ref: "registry.example.com:5443/a/b/c:v1", host: "registry.example.com:5443", repo: "a/b/c", realm: "https://sso.example.org/token?x=1",
			issuer: &issuer{}, firstToken: "GET svc repository:a/b/c:pull"},
	} {
		t.Run(tt.ref, func(t *testing.T) {
			n := newInternet(t)
			f := newFake()
			if tt.realm == "" {
				f.guard = basic(tt.cred.Username, tt.cred.Password)
			} else {
				f.guard = tt.issuer.bearer(tt.realm, "svc")
				tokenHost := strings.Split(tt.realm, "/")[2]
				paths := http.NewServeMux()
				paths.Handle("/"+strings.Split(strings.SplitN(tt.realm, "/", 4)[3], "?")[0], tt.issuer)
				if tokenHost == tt.host {
					paths.Handle("/", f)
				}
				n.add(tokenHost, paths)
				if tokenHost != tt.host {
					n.add(tt.host, f)
				}
			}
			if tt.realm == "" {
				n.add(tt.host, f)
			}
			ref := named(t, tt.ref)
			im.publish(f, tt.repo, target(ref))
			c := n.client(Options{Credentials: func(_ context.Context, host string) (Credential, error) {
				if host != tt.credHost && tt.credHost != "" {
					t.Errorf("a credential for %q was asked for", host)
				}
				return tt.cred, nil
			}})
			dst := newMemory(t)
			if _, err := c.Pull(t.Context(), ref, PullOptions{}, dst); err != nil {
				t.Fatal(err)
			}
			dst.checkHas(im)
			if tt.realm != "" && (len(tt.issuer.requests) != 1 || tt.issuer.requests[0] != tt.firstToken) {
				t.Errorf("token requests %q, want one: %q", tt.issuer.requests, tt.firstToken)
			}
			for _, r := range n.requests() {
				if strings.Contains(r, " http://") {
					t.Errorf("in the clear: %s", r)
				}
			}
		})
	}
}

// TestTokenFlows tries what token servers differ in, on one that is at the registry's own host.
func TestTokenFlows(t *testing.T) {
	me := map[string]string{"me": "secret"}
	for _, tt := range []struct {
		name   string
		issuer *issuer
		cred   Credential
		want   []string // methods
		kind   func(error) bool
	}{
		{name: "access_token", issuer: &issuer{access: true}, want: []string{"GET"}},
		{name: "refresh token, no POST (400)", issuer: &issuer{users: me, refresh: "r", post: 400}, cred: Credential{IdentityToken: "r"}, want: []string{"POST", "GET"}},
		{name: "refresh token, no POST (401)", issuer: &issuer{users: me, refresh: "r", post: 401}, cred: Credential{IdentityToken: "r"}, want: []string{"POST", "GET"}},
		{name: "refresh token, no POST (404)", issuer: &issuer{users: me, refresh: "r", post: 404}, cred: Credential{IdentityToken: "r"}, want: []string{"POST", "GET"}},
		{name: "refresh token, no POST (405)", issuer: &issuer{users: me, refresh: "r", post: 405}, cred: Credential{IdentityToken: "r"}, want: []string{"POST", "GET"}},
		{name: "password, no GET", issuer: &issuer{users: me, get: 405}, cred: Credential{Username: "me", Password: "secret"}, want: []string{"GET", "POST"}},
		{name: "wrong password", issuer: &issuer{users: me}, cred: Credential{Username: "me", Password: "x"}, want: []string{"GET"}, kind: errdefs.IsUnauthorized},
		{name: "old refresh token", issuer: &issuer{users: me, refresh: "r"}, cred: Credential{IdentityToken: "q"}, want: []string{"POST", "GET"}, kind: errdefs.IsUnauthorized},
		{name: "a login that may not", issuer: &issuer{users: me, get: 403}, cred: Credential{Username: "me", Password: "secret"}, want: []string{"GET"}, kind: errdefs.IsPermissionDenied},
		{name: "anonymous where a login is wanted", issuer: &issuer{users: me}, want: []string{"GET"}, kind: errdefs.IsUnauthorized},
		{name: "a token that is handed over as it is", issuer: &issuer{given: []string{"mine repository:i:pull"}}, cred: Credential{RegistryToken: "mine"}},
		{name: "token server out of order", issuer: &issuer{get: 503}, want: slices.Repeat([]string{"GET"}, maxAttempts), kind: errdefs.IsUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newInternet(t)
			f := newFake()
			f.guard = tt.issuer.bearer("https://r.example.com/token", "svc")
			n.add("r.example.com", withToken(f, tt.issuer))
			im := makeImage(t, imageOptions{sizes: []int{10}})
			im.publish(f, "i", "latest")
			c := n.client(Options{Credentials: func(context.Context, string) (Credential, error) { return tt.cred, nil }})
			_, err := c.Pull(t.Context(), named(t, "r.example.com/i"), PullOptions{}, newMemory(t))
			if tt.kind == nil && err != nil || tt.kind != nil && !tt.kind(err) {
				t.Errorf("error %v", err)
			}
			var methods []string
			for _, r := range tt.issuer.requests {
				methods = append(methods, strings.Fields(r)[0])
			}
			if !slices.Equal(methods, tt.want) {
				t.Errorf("asked with %q, want %q", methods, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func withToken(f http.Handler, s *issuer) http.Handler {
	paths := http.NewServeMux()
	paths.Handle("/token", s)
	paths.Handle("/", f)
	return paths
}

func TestWrongPasswordSentence(t *testing.T) {
	for name, guard := range map[string]func(*fake, *issuer){
		"bearer": func(f *fake, s *issuer) { f.guard = s.bearer("https://r.example.com/token", "svc") },
		"basic":  func(f *fake, _ *issuer) { f.guard = basic("me", "secret") },
	} {
		t.Run(name, func(t *testing.T) {
			n := newInternet(t)
			f, s := newFake(), &issuer{users: map[string]string{"me": "secret"}}
			guard(f, s)
			n.add("r.example.com", withToken(f, s))
			c := n.client(Options{})
			_, err := c.Login(t.Context(), "r.example.com", Credential{Username: "me", Password: "wrong"})
			if !errdefs.IsUnauthorized(err) || !strings.Contains(err.Error(), "registry r.example.com: unauthorized: incorrect username or password") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	n := newInternet(t)
	f, s := newFake(), &issuer{users: map[string]string{"me": "secret"}, refresh: "for-later"}
	f.guard = s.bearer("https://auth.docker.io/token", "svc")
	n.add("registry-1.docker.io", f)
	n.add("auth.docker.io", withToken(f, s))
	c := n.client(Options{})
	for _, host := range []string{"docker.io", "https://index.docker.io/v1/", "", "registry-1.docker.io"} {
		identity, err := c.Login(t.Context(), host, Credential{Username: "me", Password: "secret"})
		if err != nil || identity != "for-later" {
			t.Errorf("%q: %q, %v", host, identity, err)
		}
	}
	// What came of it is good for logging in.
	if _, err := c.Login(t.Context(), "docker.io", Credential{IdentityToken: "for-later"}); err != nil {
		t.Error(err)
	}

	b := newFake()
	b.guard = basic("me", "secret")
	n.add("basic.example.com", b)
	if identity, err := c.Login(t.Context(), "basic.example.com", Credential{Username: "me", Password: "secret"}); err != nil || identity != "" {
		t.Errorf("%q, %v", identity, err)
	}
	n.add("open.example.com", newFake())
	if _, err := c.Login(t.Context(), "https://open.example.com/v2/", Credential{Username: "me", Password: "secret"}); err != nil {
		t.Error(err)
	}
	n.add("web.example.com", http.NotFoundHandler())
	if _, err := c.Login(t.Context(), "web.example.com", Credential{Username: "me", Password: "secret"}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

// TestTokensAreKept: one token serves a whole pull, and the next, until it expires; another user's
// never does.
func TestTokensAreKept(t *testing.T) {
	n := newInternet(t)
	f, s := newFake(), &issuer{users: map[string]string{"me": "secret", "you": "other"}}
	f.guard = s.bearer("https://r.example.com/token", "svc")
	n.add("r.example.com", withToken(f, s))
	makeImage(t, imageOptions{sizes: []int{10, 20, 30, 40}}).publish(f, "i", "latest")
	c := n.client(Options{})
	now := time.Now()
	c.shared.now = func() time.Time { return now }
	pull := func(user, password string) error {
		as := c.As(func(context.Context, string) (Credential, error) {
			return Credential{Username: user, Password: password}, nil
		})
		_, err := as.Pull(t.Context(), named(t, "r.example.com/i"), PullOptions{}, newMemory(t))
		return err
	}
	steps := []struct {
		later          time.Duration
		user, password string
		tokens         int
	}{
		{0, "me", "secret", 1},
		{50 * time.Second, "me", "secret", 1},
		{0, "you", "other", 2},
		{10 * time.Second, "me", "secret", 3}, // no expires_in means a minute
	}
	for i, step := range steps {
		now = now.Add(step.later)
		if err := pull(step.user, step.password); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if len(s.given) != step.tokens {
			t.Errorf("step %d: %d tokens given, want %d", i, len(s.given), step.tokens)
		}
	}
	if err := pull("me", "wrong"); !errdefs.IsUnauthorized(err) {
		t.Errorf("a wrong password got in on another's token: %v", err)
	}
}

// TestTokenRefusedEarly: a token that its registry doesn't take any more is replaced.
func TestTokenRefusedEarly(t *testing.T) {
	n := newInternet(t)
	f, s := newFake(), &issuer{expires: "3600", gone: map[string]bool{}}
	f.guard = s.bearer("https://r.example.com/token", "svc")
	n.add("r.example.com", withToken(f, s))
	makeImage(t, imageOptions{sizes: []int{10}}).publish(f, "i", "latest")
	c := n.client(Options{})
	for i := range 3 {
		if _, err := c.Pull(t.Context(), named(t, "r.example.com/i"), PullOptions{}, newMemory(t)); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		s.mu.Lock()
		for _, g := range s.given {
			s.gone[strings.Fields(g)[0]] = true
		}
		s.mu.Unlock()
	}
	if len(s.given) != 3 {
		t.Errorf("tokens %q", s.given)
	}
}

// TestInsufficientScope: a token that turns out to be too narrow is asked for once more, and no more.
func TestInsufficientScope(t *testing.T) {
	n := newInternet(t)
	f, s := newFake(), &issuer{narrow: true}
	f.guard = s.bearer("https://r.example.com/token", "svc")
	// The registry wants more than the operation seems to need.
	inner := f.guard
	f.guard = func(w http.ResponseWriter, r *http.Request, scope string) bool {
		return inner(w, r, strings.Replace(scope, ":pull", ":delete,pull", 1))
	}
	n.add("r.example.com", withToken(f, s))
	makeImage(t, imageOptions{sizes: []int{10}}).publish(f, "i", "latest")
	c := n.client(Options{})
	if _, err := c.Resolve(t.Context(), named(t, "r.example.com/i")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"token-1 repository:i:delete,pull"}; !slices.Equal(s.given, want) {
		t.Errorf("%q", s.given)
	}

	// A token server that never gives enough: the answer is no, after few questions.
	s.requests = nil
	f.guard = func(w http.ResponseWriter, r *http.Request, scope string) bool {
		return inner(w, r, "repository:other:push")
	}
	f.requests()
	_, err := c.Resolve(t.Context(), named(t, "r.example.com/i"))
	if err != nil {
		t.Fatalf("asked for with the scope that the registry names, it is enough: %v", err)
	}
	f.guard = func(w http.ResponseWriter, r *http.Request, scope string) bool {
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://r.example.com/token",service="svc",scope="repository:i:pull",error="insufficient_scope"`)
		sayError(w, 401, codeDenied, "requested access to the resource is denied")
		return false
	}
	f.requests()
	_, err = c.Resolve(t.Context(), named(t, "r.example.com/i"))
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "pull access denied for r.example.com/i, repository does not exist or may require") {
		t.Errorf("%v", err)
	}
	if asked := f.requests(); len(asked) > 4 {
		t.Errorf("asked %d times: %q", len(asked), asked)
	}
}

// TestCredentialsStayHome: nobody but the registry and its token server sees an Authorization header.
func TestCredentialsStayHome(t *testing.T) {
	n := newInternet(t)
	f := newFake()
	f.guard = basic("me", "secret")
	im := makeImage(t, imageOptions{sizes: []int{1000}})
	im.publish(f, "i", "latest")
	n.add("r.example.com", f)
	cdn := func(w http.ResponseWriter, r *http.Request) {
		for _, h := range []string{"Authorization", "Cookie"} {
			if r.Header.Get(h) != "" {
				t.Errorf("%s was told %s", r.Host, h)
			}
		}
		d := im.layers[0].Blob.Digest
		if strings.Contains(r.URL.Path, im.config.Digest.Encoded()) {
			d = im.config.Digest
		}
		f.sendBlob(w, r, d, im.blobs[d])
	}
	for _, at := range []string{"cdn.r.example.com", "r.example.com:8443", "other.net"} {
		t.Run(at, func(t *testing.T) {
			n.add(at, http.HandlerFunc(cdn))
			f.blobsAt = func(d string) string { return "https://" + at + "/" + strings.TrimPrefix(d, "sha256:") + "?sig=1" }
			c := n.client(Options{Credentials: func(context.Context, string) (Credential, error) {
				return Credential{Username: "me", Password: "secret"}, nil
			}})
			dst := newMemory(t)
			if _, err := c.Pull(t.Context(), named(t, "r.example.com/i"), PullOptions{}, dst); err != nil {
				t.Fatal(err)
			}
			dst.checkHas(im)
		})
	}
}

// TestDowngrades: neither a token server nor a blob store in the clear, for a registry over TLS.
func TestDowngrades(t *testing.T) {
	credential := func(context.Context, string) (Credential, error) {
		return Credential{Username: "me", Password: "secret"}, nil
	}
	for _, realm := range []string{"http://r.example.com/token", "http://127.0.0.1:1/token", "ftp://r.example.com/", "not a url", "https://u:p@r.example.com/"} {
		t.Run(realm, func(t *testing.T) {
			n := newInternet(t)
			f, s := newFake(), &issuer{}
			f.guard = s.bearer(realm, "svc")
			n.add("r.example.com", withToken(f, s))
			_, err := n.client(Options{Credentials: credential}).Resolve(t.Context(), named(t, "r.example.com/i"))
			if err == nil || len(s.requests) != 0 || !strings.Contains(err.Error(), "token server") {
				t.Errorf("%v; asked %q", err, s.requests)
			}
			for _, r := range n.requests() {
				if strings.Contains(r, " http://") {
					t.Errorf("in the clear: %s", r)
				}
			}
		})
	}
	t.Run("redirect", func(t *testing.T) {
		n := newInternet(t)
		f := newFake()
		makeImage(t, imageOptions{sizes: []int{10}}).publish(f, "i", "latest")
		n.add("r.example.com", f)
		for _, to := range []string{"http://r.example.com/x", "http://127.0.0.1:1/x", "file:///etc/passwd", "https://u:p@r.example.com/x"} {
			f.blobsAt = func(string) string { return to }
			_, err := n.client(Options{Credentials: credential}).Pull(t.Context(), named(t, "r.example.com/i"), PullOptions{}, newMemory(t))
			if err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("%s: %v", to, err)
			}
		}
		for _, r := range n.requests() {
			if strings.Contains(r, " http://") {
				t.Errorf("in the clear: %s", r)
			}
		}
	})
	t.Run("token redirect", func(t *testing.T) {
		n := newInternet(t)
		f, s := newFake(), &issuer{refresh: "r", users: map[string]string{}}
		f.guard = s.bearer("https://r.example.com/token", "svc")
		paths := http.NewServeMux()
		paths.Handle("/token", http.RedirectHandler("https://evil.example.com/token", http.StatusTemporaryRedirect))
		paths.Handle("/", f)
		n.add("r.example.com", paths)
		n.add("evil.example.com", s)
		c := n.client(Options{Credentials: func(context.Context, string) (Credential, error) { return Credential{IdentityToken: "r"}, nil }})
		if _, err := c.Resolve(t.Context(), named(t, "r.example.com/i")); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%v", err)
		}
		for _, r := range n.requests() {
			if strings.Contains(r, "POST https://evil") {
				t.Errorf("a refresh token went to %s", r)
			}
		}
	})
}

// TestCredentialHelperFails: the failure is told, and asked again the next time.
func TestCredentialHelperFails(t *testing.T) {
	n := newInternet(t)
	f := newFake()
	f.guard = basic("me", "secret")
	makeImage(t, imageOptions{sizes: []int{10}}).publish(f, "i", "latest")
	n.add("r.example.com", f)
	asked := 0
	c := n.client(Options{Credentials: func(context.Context, string) (Credential, error) {
		if asked++; asked == 1 {
			return Credential{}, errTest
		}
		return Credential{Username: "me", Password: "secret"}, nil
	}})
	if _, err := c.Resolve(t.Context(), named(t, "r.example.com/i")); err == nil || !strings.Contains(err.Error(), "credential for registry r.example.com") {
		t.Errorf("%v", err)
	}
	for range 2 {
		if _, err := c.Resolve(t.Context(), named(t, "r.example.com/i")); err != nil {
			t.Error(err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}
