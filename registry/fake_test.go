package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// internet is a set of hosts that all live on one loopback address, with certificates of a CA of their
// own, so that names like registry-1.docker.io can be played over real HTTPS.
type internet struct {
	t     *testing.T
	certs string // certs.d, which trusts the CA for every host that was added

	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
	https *httptest.Server
	http  *httptest.Server

	mu    sync.Mutex
	hosts map[string]http.Handler // guarded by mu; by HOST or HOST:PORT as in URLs
	seen  []string                // guarded by mu; "METHOD SCHEME://HOST/PATH?QUERY"
}

func newInternet(t *testing.T) *internet {
	t.Helper()
	n := &internet{t: t, certs: t.TempDir(), hosts: map[string]http.Handler{}}
	n.makeCA()
	n.https = httptest.NewUnstartedServer(http.HandlerFunc(n.serve))
	n.https.TLS = &tls.Config{GetCertificate: n.certificate}
	n.https.Config.ErrorLog = log.New(io.Discard, "", 0)
	n.https.StartTLS()
	n.http = httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(n.https.Close)
	t.Cleanup(n.http.Close)
	return n
}

// add makes host exist. Its certificate is trusted.
func (n *internet) add(host string, h http.Handler) {
	n.t.Helper()
	dir := filepath.Join(n.certs, host)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		n.t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.ca.Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), text, 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	n.hosts[host] = h
	n.mu.Unlock()
}

func (n *internet) serve(w http.ResponseWriter, r *http.Request) {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	n.mu.Lock()
	h := n.hosts[r.Host]
	n.seen = append(n.seen, r.Method+" "+scheme+"://"+r.Host+r.URL.RequestURI())
	n.mu.Unlock()
	if h == nil {
		http.Error(w, "no such host here", http.StatusBadGateway)
		return
	}
	h.ServeHTTP(w, r)
}

// requests returns what was asked since the last call.
func (n *internet) requests() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	seen := n.seen
	n.seen = nil
	return seen
}

// client returns a Client whose connections all end here, and which never waits.
func (n *internet) client(o Options) *Client {
	n.t.Helper()
	o.CertsDir = n.certs
	o.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	c := newClient(n.t, o)
	c.shared.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		to := n.https.Listener.Addr()
		if port == "80" || port == "8080" {
			to = n.http.Listener.Addr()
		}
		return new(net.Dialer).DialContext(ctx, network, to.String())
	}
	return c
}

// newClient returns a Client that notes its waits instead of waiting.
func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.shared.wait = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	t.Cleanup(c.Close)
	return c
}

func (n *internet) makeCA() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		n.t.Fatal(err)
	}
	if n.ca, err = x509.ParseCertificate(raw); err != nil {
		n.t.Fatal(err)
	}
	n.caKey = key
}

func (n *internet) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := cmp.Or(hello.ServerName, "localhost")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, n.ca, n.caKey.Public(), n.caKey)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: n.caKey}, nil
}

// fake is a registry in memory. Its fields are its manners.
type fake struct {
	// guard lets a request pass, or answers it; nil: everybody may. scope is what the request needs.
	guard func(w http.ResponseWriter, r *http.Request, scope string) bool
	// before may answer a request itself.
	before func(w http.ResponseWriter, r *http.Request) bool

	noHead       bool                     // HEAD of a manifest is 405
	noDigest     bool                     // no Docker-Content-Digest
	digestHeader string                   // this one instead of the right one
	contentType  string                   // this one instead of the right one
	blobsAt      func(d string) string    // redirect for blobs
	damage       map[digest.Digest][]byte // other bytes for a blob
	cuts         map[digest.Digest][]int  // the nth answer with a blob breaks off after so many bytes
	noRanges     bool
	maxPut       int64 // 413 beyond it; 0: no limit
	noPut        bool  // 405 for a PUT with bytes
	noPatch      bool  // 405
	minChunk     int64
	ranges00     bool // "Range: 0-0" after every PATCH
	mounts       bool

	mu        sync.Mutex
	blobs     map[string]map[digest.Digest][]byte // guarded by mu; by repository
	manifests map[string]map[string]document      // guarded by mu; by repository, tag and digest
	uploads   map[string]*[]byte                  // guarded by mu; by session
	state     int                                 // guarded by mu; of sessions
	log       []string                            // guarded by mu; "METHOD PATH"
	bytesSent int64                               // guarded by mu; of blobs
}

type document struct {
	mediaType string
	body      []byte
}

func newFake() *fake {
	return &fake{
		damage: map[digest.Digest][]byte{}, cuts: map[digest.Digest][]int{},
		blobs: map[string]map[digest.Digest][]byte{}, manifests: map[string]map[string]document{}, uploads: map[string]*[]byte{},
	}
}

func (f *fake) addBlob(repo string, b []byte) digest.Digest {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := digest.FromBytes(b)
	if f.blobs[repo] == nil {
		f.blobs[repo] = map[digest.Digest][]byte{}
	}
	f.blobs[repo][d] = b
	return d
}

func (f *fake) addManifest(repo, tag, mediaType string, body []byte) digest.Digest {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := digest.FromBytes(body)
	if f.manifests[repo] == nil {
		f.manifests[repo] = map[string]document{}
	}
	f.manifests[repo][d.String()] = document{mediaType, body}
	if tag != "" {
		f.manifests[repo][tag] = document{mediaType, body}
	}
	return d
}

// requests returns what was asked since the last call.
func (f *fake) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.log
	f.log = nil
	return l
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.log = append(f.log, r.Method+" "+r.URL.RequestURI())
	f.mu.Unlock()
	if f.before != nil && f.before(w, r) {
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	if path == "" {
		if f.guard == nil || f.guard(w, r, "") {
			w.WriteHeader(http.StatusOK)
		}
		return
	}
	repo, kind, rest := splitPath(path)
	actions := "pull"
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		actions = "pull,push"
	}
	if f.guard != nil && !f.guard(w, r, repositoryScope(repo, actions)) {
		return
	}
	switch {
	case kind == "manifests" && r.Method == http.MethodPut:
		f.putManifest(w, r, repo, rest)
	case kind == "manifests":
		f.getManifest(w, r, repo, rest)
	case kind == "uploads" && r.Method == http.MethodPost:
		f.beginUpload(w, r, repo)
	case kind == "uploads":
		f.continueUpload(w, r, repo, rest)
	case kind == "blobs":
		f.getBlob(w, r, repo, digest.Digest(rest))
	default:
		http.NotFound(w, r)
	}
}

func splitPath(path string) (repo, kind, rest string) {
	for _, k := range []string{"/blobs/uploads/", "/blobs/", "/manifests/"} {
		if i := strings.Index(path, k); i >= 0 {
			parts := strings.Split(strings.Trim(k, "/"), "/")
			return path[:i], parts[len(parts)-1], path[i+len(k):]
		}
	}
	return path, "", ""
}

func sayError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
}

func (f *fake) getManifest(w http.ResponseWriter, r *http.Request, repo, ref string) {
	f.mu.Lock()
	m, ok := f.manifests[repo][ref]
	known := f.manifests[repo] != nil
	f.mu.Unlock()
	switch {
	case f.noHead && r.Method == http.MethodHead:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case !known:
		sayError(w, 404, codeNameUnknown, "repository name not known to registry")
		return
	case !ok:
		sayError(w, 404, codeManifestUnknown, "manifest unknown")
		return
	}
	if !f.noDigest {
		w.Header().Set("Docker-Content-Digest", cmp.Or(f.digestHeader, digest.FromBytes(m.body).String()))
	}
	w.Header().Set("Content-Type", cmp.Or(f.contentType, m.mediaType))
	w.Header().Set("Content-Length", strconv.Itoa(len(m.body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(m.body)
	}
}

func (f *fake) putManifest(w http.ResponseWriter, r *http.Request, repo, ref string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	for _, d := range digestsIn(body) {
		if !f.has(repo, d) {
			sayError(w, 400, codeBlobUnknown, "unknown: "+d.String())
			return
		}
	}
	d := digest.FromBytes(body)
	if asked := digest.Digest(ref); asked.Validate() == nil && asked != d {
		sayError(w, 400, "DIGEST_INVALID", "provided digest did not match uploaded content")
		return
	}
	f.addManifest(repo, ref, r.Header.Get("Content-Type"), body)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Location", "/v2/"+repo+"/manifests/"+d.String())
	w.WriteHeader(http.StatusCreated)
}

// digestsIn finds what a document names, without understanding it.
func digestsIn(body []byte) []digest.Digest {
	var all []digest.Digest
	for _, part := range strings.Split(string(body), `"digest":"`)[1:] {
		text, _, _ := strings.Cut(part, `"`)
		all = append(all, digest.Digest(text))
	}
	return all
}

func (f *fake) has(repo string, d digest.Digest) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, blob := f.blobs[repo][d]
	_, doc := f.manifests[repo][d.String()]
	return blob || doc
}

func (f *fake) getBlob(w http.ResponseWriter, r *http.Request, repo string, d digest.Digest) {
	f.mu.Lock()
	b, ok := f.blobs[repo][d]
	f.mu.Unlock()
	if !ok {
		sayError(w, 404, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	if f.blobsAt != nil {
		w.Header().Set("Location", f.blobsAt(d.String()))
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	f.sendBlob(w, r, d, b)
}

// sendBlob answers with the bytes of a blob, or what the manners make of them.
func (f *fake) sendBlob(w http.ResponseWriter, r *http.Request, d digest.Digest, b []byte) {
	f.mu.Lock()
	if other, ok := f.damage[d]; ok {
		b = other
	}
	cut := -1
	if list := f.cuts[d]; len(list) > 0 && r.Method == http.MethodGet {
		cut, f.cuts[d] = list[0], list[1:]
	}
	f.mu.Unlock()
	status, from := http.StatusOK, 0
	if text, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && !f.noRanges {
		from, _ = strconv.Atoi(strings.TrimSuffix(text, "-"))
		if from >= len(b) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)-from))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	b = b[from:]
	if cut >= 0 && cut < len(b) {
		_, _ = w.Write(b[:cut])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	f.mu.Lock()
	f.bytesSent += int64(len(b))
	f.mu.Unlock()
	_, _ = w.Write(b)
}

func (f *fake) beginUpload(w http.ResponseWriter, r *http.Request, repo string) {
	q := r.URL.Query()
	if from := q.Get("from"); from != "" && f.mounts {
		d := digest.Digest(q.Get("mount"))
		f.mu.Lock()
		b, ok := f.blobs[from][d]
		f.mu.Unlock()
		if ok {
			f.addBlob(repo, b)
			w.WriteHeader(http.StatusCreated)
			return
		}
	}
	f.mu.Lock()
	f.state++
	id := fmt.Sprintf("s%d", f.state)
	f.uploads[id] = &[]byte{}
	f.mu.Unlock()
	if f.minChunk > 0 {
		w.Header().Set("OCI-Chunk-Min-Length", strconv.FormatInt(f.minChunk, 10))
	}
	f.uploadGoesOn(w, r, repo, id)
}

// uploadGoesOn answers 202 with an address that is relative, other than the last, and has a query.
func (f *fake) uploadGoesOn(w http.ResponseWriter, _ *http.Request, repo, id string) {
	f.mu.Lock()
	f.state++
	w.Header().Set("Location", fmt.Sprintf("/v2/%s/blobs/uploads/%s?_state=%d%%3D%%3D", repo, id, f.state))
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(len(*f.uploads[id])-1, 0)))
	f.mu.Unlock()
	if f.ranges00 {
		w.Header().Set("Range", "0-0")
	}
	w.WriteHeader(http.StatusAccepted)
}

func (f *fake) continueUpload(w http.ResponseWriter, r *http.Request, repo, id string) {
	f.mu.Lock()
	data, ok := f.uploads[id]
	fresh := ok && r.URL.Query().Get("_state") == fmt.Sprintf("%d==", f.state)
	f.mu.Unlock()
	switch {
	case !ok || !fresh && f.ranges00: // one upload at a time in those tests: the state must be the last
		sayError(w, 404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
	case r.Method == http.MethodPatch && f.noPatch, r.Method == http.MethodPut && f.noPut && r.ContentLength > 0:
		sayError(w, 405, "UNSUPPORTED", "the operation is unsupported")
	case f.maxPut > 0 && r.ContentLength > f.maxPut:
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	case r.Method == http.MethodPatch:
		f.patchUpload(w, r, repo, id, data)
	case r.Method == http.MethodPut:
		f.endUpload(w, r, repo, data)
	}
}

func (f *fake) patchUpload(w http.ResponseWriter, r *http.Request, repo, id string, data *[]byte) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	want := fmt.Sprintf("%d-%d", len(*data), len(*data)+len(body)-1)
	*data = append(*data, body...)
	f.mu.Unlock()
	if r.Header.Get("Content-Range") != want {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	f.uploadGoesOn(w, r, repo, id)
}

func (f *fake) endUpload(w http.ResponseWriter, r *http.Request, repo string, data *[]byte) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	all := append(bytes.Clone(*data), body...)
	if got := digest.FromBytes(all).String(); got != r.URL.Query().Get("digest") {
		sayError(w, 400, "DIGEST_INVALID", "provided digest did not match uploaded content")
		return
	}
	f.addBlob(repo, all)
	w.WriteHeader(http.StatusCreated)
}

// issuer plays a token server.
type issuer struct {
	users    map[string]string // password by user name; nil: anonymous only
	refresh  string            // the refresh token that it takes, and gives where offline access is asked
	post     int               // status for a POST; 0: it takes them
	get      int               // status for a GET; 0: it takes them
	access   bool              // calls the token access_token
	expires  string            // a number, or "" for no expires_in
	narrow   bool              // gives tokens for the first scope only, until asked again
	mu       sync.Mutex
	n        int      // guarded by mu
	given    []string // guarded by mu; "TOKEN SCOPES"
	requests []string // guarded by mu; "METHOD service scopes"
	gone     map[string]bool
}

func (s *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var scopes []string
	for _, list := range r.Form["scope"] {
		scopes = append(scopes, strings.Fields(list)...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, fmt.Sprintf("%s %s %s", r.Method, r.Form.Get("service"), strings.Join(scopes, " ")))
	if status := map[string]int{http.MethodGet: s.get, http.MethodPost: s.post}[r.Method]; status != 0 {
		w.WriteHeader(status)
		return
	}
	offline := r.Form.Get("offline_token") == "true" || r.Form.Get("access_type") == "offline"
	if !s.knows(r) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"details":"incorrect username or password"}`)
		return
	}
	s.n++
	if s.narrow && s.n == 1 && len(scopes) > 0 {
		scopes = []string{strings.TrimSuffix(scopes[0], ",push")}
	}
	token := fmt.Sprintf("token-%d", s.n)
	s.given = append(s.given, token+" "+strings.Join(scopes, " "))
	field := "token"
	if s.access {
		field = "access_token"
	}
	fmt.Fprintf(w, `{%q:%q`, field, token)
	if s.expires != "" {
		fmt.Fprintf(w, `,"expires_in":%s`, s.expires)
	}
	if offline && s.refresh != "" {
		fmt.Fprintf(w, `,"refresh_token":%q`, s.refresh)
	}
	fmt.Fprint(w, "}")
}

func (s *issuer) knows(r *http.Request) bool {
	if r.Method == http.MethodPost {
		if r.Form.Get("grant_type") == "refresh_token" {
			return s.refresh != "" && r.Form.Get("refresh_token") == s.refresh
		}
		want, ok := s.users[r.Form.Get("username")]
		return ok && want == r.Form.Get("password")
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return s.users == nil
	}
	want, known := s.users[user]
	return known && want == password || s.refresh != "" && password == s.refresh
}

// bearer guards a fake with the tokens of an issuer.
func (s *issuer) bearer(realm, service string) func(http.ResponseWriter, *http.Request, string) bool {
	return func(w http.ResponseWriter, r *http.Request, scope string) bool {
		token, shown := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		known, enough := s.allows(token, scope)
		if shown && known && enough {
			return true
		}
		challenge := fmt.Sprintf("Bearer realm=%q,service=%q", realm, service)
		if scope != "" {
			challenge += fmt.Sprintf(",scope=%q", scope)
		}
		if shown && known {
			challenge += `,error="insufficient_scope"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		sayError(w, 401, codeUnauthorized, "authentication required")
		return false
	}
}

func (s *issuer) allows(token, scope string) (known, enough bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.given {
		name, scopes, _ := strings.Cut(g, " ")
		if name != token || s.gone[name] {
			continue
		}
		resource, actions := splitScope(scope)
		for _, have := range strings.Fields(scopes) {
			haveResource, haveActions := splitScope(have)
			if haveResource == resource && contains(haveActions, actions) {
				return true, true
			}
		}
		return true, scope == ""
	}
	return false, false
}

func splitScope(scope string) (resource string, actions []string) {
	i := strings.LastIndexByte(scope, ':')
	if i < 0 {
		return scope, nil
	}
	return scope[:i], strings.Split(scope[i+1:], ",")
}

func contains(have, want []string) bool {
	set := map[string]bool{}
	for _, h := range have {
		set[h] = true
	}
	for _, w := range want {
		if !set[w] {
			return false
		}
	}
	return true
}

// basic guards a fake with user name and password.
func basic(user, password string) func(http.ResponseWriter, *http.Request, string) bool {
	return func(w http.ResponseWriter, r *http.Request, _ string) bool {
		if u, p, ok := r.BasicAuth(); ok && u == user && p == password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="https://`+r.Host+`/",service="ecr.amazonaws.com"`)
		sayError(w, 401, codeUnauthorized, "Not Authorized")
		return false
	}
}

var errTest = errors.New("test")
