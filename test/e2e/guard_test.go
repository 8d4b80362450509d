package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// guard stands before the run's registry and lets nobody in who can't show who he is. It is a token server, too.
type guard struct {
	mode           string // "basic"; "token"; "identity": tokens, and a login gives one that stands for the password
	user, password string
	identity       string
	registry       http.Handler

	mu     sync.Mutex
	tokens map[string]string // guarded by mu; scopes by token
}

// cmdGuard starts one, and puts its HOST:PORT into $GUARDED: guard MODE USER PASSWORD
func cmdGuard(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: guard basic|token|identity USER PASSWORD")
	}
	g := &guard{
		mode: args[0], user: args[1], password: args[2], identity: rand.Text(), tokens: map[string]string{},
		// The Host header stays as it was asked for: the registry says it where it leads on.
		registry: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: world.registry})
			r.Out.Host = r.In.Host
			r.Out.Header.Del("Authorization")
		}},
	}
	s := httptest.NewServer(g)
	ts.Defer(s.Close)
	ts.Setenv("GUARDED", s.Listener.Addr().String())
	ts.Setenv("IDENTITY", g.identity)
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/token" && g.mode != "basic":
		g.serveToken(w, r)
	case g.may(r):
		g.registry.ServeHTTP(w, r)
	default:
		challenge := `Basic realm="the registry"`
		if g.mode != "basic" {
			challenge = fmt.Sprintf(`Bearer realm="http://%s/token",service="guard",scope="%s"`, r.Host, scopeOf(r))
		}
		w.Header().Set("WWW-Authenticate", challenge)
		refuse(w, "authentication required")
	}
}

func refuse(w http.ResponseWriter, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":%q}]}`, message)
}

// may says whether a request shows what it needs.
func (g *guard) may(r *http.Request) bool {
	if g.mode == "basic" {
		user, password, ok := r.BasicAuth()
		return ok && user == g.user && password == g.password
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	g.mu.Lock()
	defer g.mu.Unlock()
	scopes, known := g.tokens[token]
	return ok && known && covers(scopes, scopeOf(r))
}

// scopeOf is what a request needs: "" for /v2/ itself.
func scopeOf(r *http.Request) string {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	for _, kind := range []string{"/manifests/", "/blobs/", "/tags/"} {
		if i := strings.LastIndex(path, kind); i >= 0 {
			actions := "pull"
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				actions = "pull,push"
			}
			return "repository:" + path[:i] + ":" + actions
		}
	}
	return ""
}

// covers says whether one of the scopes allows what want does.
func covers(scopes, want string) bool {
	if want == "" {
		return true
	}
	for s := range strings.FieldsSeq(scopes) {
		if s == want || s == strings.TrimSuffix(want, ":pull")+":pull,push" {
			return true
		}
	}
	return false
}

// serveToken gives tokens (distribution, "Token Authentication" and "Oauth2 Token Authentication").
func (g *guard) serveToken(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm() // what is not there is wrong
	user, password, _ := r.BasicAuth()
	if r.Method == http.MethodPost {
		user, password = r.Form.Get("username"), r.Form.Get("password")
	}
	if right := user == g.user && password == g.password; !right && (g.mode != "identity" || r.Form.Get("refresh_token") != g.identity) {
		refuse(w, "incorrect username or password")
		return
	}
	token := rand.Text()
	g.mu.Lock()
	g.tokens[token] = strings.Join(r.Form["scope"], " ")
	g.mu.Unlock()
	answer := map[string]any{"token": token, "access_token": token, "expires_in": 300}
	if g.mode == "identity" && (r.Form.Get("offline_token") == "true" || r.Form.Get("access_type") == "offline") {
		answer["refresh_token"] = g.identity
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}
