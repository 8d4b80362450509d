package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// token is what a token server gave.
type token struct {
	access  string
	refresh string // "" where it gave none
	expires time.Time
}

const (
	clientID = "berth"
	// minTokenLife is how long a token is taken to live where its server says less, or nothing
	// (distribution, "Token Authentication": 60 s where there is no expires_in).
	minTokenLife = time.Minute
	// tokenMargin before its end a token is not used any more.
	tokenMargin  = 5 * time.Second
	maxTokenBody = 1 << 20
)

// fetchToken gets an access token from the server that a Bearer challenge names. A password is shown
// in a GET, as the protocol began; an identity token in a POST (OAuth 2), and in a GET where the server
// takes no POST. offline asks for a refresh token as well.
func (c *Client) fetchToken(ctx context.Context, e *endpoint, offer challenge, scopes []string, cred Credential, offline bool) (token, error) {
	realm, err := c.realm(e, offer)
	if err != nil {
		return token{}, err
	}
	ask := tokenRequest{realm: realm, service: offer.params["service"], scopes: scopes, cred: cred, offline: offline}
	first, second := ask.get, ask.post
	if cred.IdentityToken != "" {
		first, second = ask.post, ask.get
	}
	t, err := c.askForToken(ctx, e, first())
	if takesOtherForm(err, cred) {
		other, otherErr := c.askForToken(ctx, e, second())
		if otherErr == nil {
			return other, nil
		}
		if refused(otherErr) {
			err = otherErr
		}
	}
	if err != nil {
		return token{}, settled{tokenRefused(e, cred, err)}
	}
	return t, nil
}

// settled is an error that all attempts have been spent on.
type settled struct{ error }

func (s settled) Unwrap() []error { return []error{s.error, errPermanent} }

// takesOtherForm says whether a token server may take the other of GET and POST. Seen: Google answers a
// POST with 404, JFrog with 401, Azure with 400.
func takesOtherForm(err error, cred Credential) bool {
	status := statusOf(err)
	if cred.IdentityToken == "" {
		return !cred.anonymous() && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed)
	}
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed:
		return true
	}
	return false
}

// realm is the URL of the token server. A registry that is spoken to over TLS may not have credentials
// sent in the clear.
func (c *Client) realm(e *endpoint, offer challenge) (*url.URL, error) {
	u, err := url.Parse(offer.params["realm"])
	if err != nil || u.Host == "" || u.User != nil {
		return nil, say(errdefs.ErrUnavailable, errPermanent, "registry %s: it names %q as its token server, which is no URL", e.name, printable(offer.params["realm"]))
	}
	plain := e.currentScheme() == "http"
	if u.Scheme != "https" && !(u.Scheme == "http" && plain && c.shared.insecure.allows(u.Host)) {
		return nil, say(errdefs.ErrUnavailable, errPermanent, "registry %s: it wants credentials sent to its token server %s over %q, without encryption: refused",
			e.name, u.Host, u.Scheme)
	}
	return u, nil
}

// tokenRefused writes the sentence for a token server's no.
func tokenRefused(e *endpoint, cred Credential, err error) error {
	var status *statusError
	if !errors.As(err, &status) {
		return err
	}
	wrong := status.status == http.StatusUnauthorized
	switch {
	case status.status == http.StatusForbidden && !cred.anonymous():
		return say(errdefs.ErrPermissionDenied, err, "registry %s: access denied: this login is not allowed to (%v)", e.name, err)
	case (wrong || status.status == http.StatusBadRequest) && cred.IdentityToken != "":
		return say(errdefs.ErrUnauthenticated, err, "registry %s: unauthorized: the login is not valid any more (%v): log in again", e.name, err)
	case wrong && !cred.anonymous():
		return say(errdefs.ErrUnauthenticated, err, "registry %s: unauthorized: incorrect username or password (%v)", e.name, err)
	case wrong, status.status == http.StatusForbidden:
		return say(errdefs.ErrUnauthenticated, err, "registry %s: unauthorized: it wants a login, 'berth login %s' (%v)", e.name, e.name, err)
	}
	return say(status.Unwrap(), err, "registry %s: its token server gives no token: %v", e.name, err)
}

// tokenRequest is what a token is asked for with.
type tokenRequest struct {
	realm   *url.URL
	service string
	scopes  []string
	cred    Credential
	offline bool
}

// get is the first form (distribution, "Token Authentication Specification").
func (t tokenRequest) get() request {
	u := *t.realm
	q := u.Query()
	if t.service != "" {
		q.Set("service", t.service)
	}
	for _, s := range t.scopes {
		q.Add("scope", s)
	}
	if t.cred.Username != "" {
		q.Set("account", t.cred.Username)
	}
	if t.offline {
		q.Set("offline_token", "true")
		q.Set("client_id", clientID)
	}
	u.RawQuery = q.Encode()
	authorization := ""
	if !t.cred.anonymous() {
		authorization = t.cred.basic()
	}
	return request{method: http.MethodGet, url: &u, authorization: authorization}
}

// post is the second form (distribution, "Docker Registry v2 authentication using OAuth2").
func (t tokenRequest) post() request {
	form := url.Values{"service": {t.service}, "client_id": {clientID}}
	if len(t.scopes) > 0 {
		form.Set("scope", strings.Join(t.scopes, " "))
	}
	if t.offline {
		form.Set("access_type", "offline")
	}
	if t.cred.IdentityToken != "" {
		form.Set("grant_type", "refresh_token")
		form.Set("refresh_token", t.cred.IdentityToken)
	} else {
		form.Set("grant_type", "password")
		form.Set("username", t.cred.Username)
		form.Set("password", t.cred.Password)
	}
	body := []byte(form.Encode())
	return request{
		method: http.MethodPost, url: t.realm,
		header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		size:   int64(len(body)),
		secret: true,
	}
}

func (c *Client) askForToken(ctx context.Context, e *endpoint, rq request) (token, error) {
	for attempt := 0; ; attempt++ {
		t, err := c.askOnce(ctx, e, rq)
		delay, worth := again(ctx, err, attempt, true)
		if err == nil || !worth {
			return t, err
		}
		if err := c.shared.wait(ctx, delay); err != nil {
			return token{}, err
		}
	}
}

func (c *Client) askOnce(ctx context.Context, e *endpoint, rq request) (token, error) {
	resp, err := c.send(ctx, rq)
	if err != nil {
		return token{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return token{}, failure(resp, c.shared.now())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenBody))
	if err != nil {
		return token{}, unreachable(rq.url.Host, err)
	}
	t, ok := parseToken(body, c.shared.now())
	if !ok {
		return token{}, say(errdefs.ErrUnavailable, errPermanent, "registry %s: the answer of its token server (%s) has no token in it", e.name, rq.url.Host)
	}
	return t, nil
}

// parseToken reads a token server's answer: "token", or "access_token" as OAuth 2 calls it.
func parseToken(body []byte, now time.Time) (token, bool) {
	var b struct {
		Token     string  `json:"token"`
		Access    string  `json:"access_token"`
		Refresh   string  `json:"refresh_token"`
		ExpiresIn float64 `json:"expires_in"` // seconds
	}
	if json.Unmarshal(body, &b) != nil {
		return token{}, false
	}
	access := b.Token
	if access == "" {
		access = b.Access
	}
	if access == "" || strings.ContainsFunc(access, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return token{}, false
	}
	life := minTokenLife
	if b.ExpiresIn > minTokenLife.Seconds() {
		life = time.Duration(min(b.ExpiresIn, 24*3600) * float64(time.Second))
	}
	return token{access: access, refresh: b.Refresh, expires: now.Add(life - tokenMargin)}, true
}
