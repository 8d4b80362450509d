package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// proof is what a request shows in its Authorization header.
type proof struct {
	header string // "" shows nothing
	key    tokenKey
	fresh  bool // made just now: if it isn't enough, nothing of the kind is
}

// do sends a request with what the registry wants to see, again where that or the transport failed and
// may not the next time. An answer that is no success is a *statusError.
func (c *Client) do(ctx context.Context, e *endpoint, rq request) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		resp, err := c.convince(ctx, e, rq)
		if err == nil {
			e.answered()
			if resp.StatusCode < 300 {
				return resp, nil
			}
			err = failure(resp, c.shared.now())
		}
		if statusOf(err) == 0 {
			e.lost()
		}
		delay, worth := again(ctx, err, attempt, e.wasReached())
		if rq.once || !worth {
			return nil, err
		}
		if err := c.shared.wait(ctx, delay); err != nil {
			return nil, err
		}
	}
}

// convince sends a request, and up to twice again with what a 401 asks for.
func (c *Client) convince(ctx context.Context, e *endpoint, rq request) (*http.Response, error) {
	if rq.anonymous || !e.owns(rq.url) { // an upload's Location at another host: none of its business who asks
		return c.send(ctx, rq)
	}
	scopes := mergeScopes(rq.scopes)
	var last proof
	for try := 0; ; try++ {
		known := e.wants()
		show, err := c.proof(ctx, e, known, scopes)
		if err != nil {
			return nil, err
		}
		show.fresh = show.fresh || show.header != "" && show.header == last.header
		rq.authorization = show.header
		resp, err := c.send(ctx, rq)
		if err != nil {
			return nil, err
		}
		offer, asked := asksForMore(resp)
		if !asked || try == 2 || !e.owns(resp.Request.URL) {
			return resp, nil
		}
		wider := mergeScopes(scopes, offer.scopes())
		e.learn(offer)
		if show.fresh && slices.Equal(wider, scopes) && offer.same(known) {
			return resp, c.wrongPassword(e, show, resp)
		}
		discard(resp)
		c.shared.tokens.forget(show.key)
		scopes, last = wider, show
	}
}

// wrongPassword writes the sentence for a registry that is shown user name and password itself, and
// doesn't take them. nil for others: there the token server is the one to say so.
func (c *Client) wrongPassword(e *endpoint, show proof, resp *http.Response) error {
	if resp.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(show.header, "Basic ") {
		return nil
	}
	no := failure(resp, c.shared.now())
	return settled{say(errdefs.ErrUnauthenticated, no, "registry %s: unauthorized: incorrect username or password (%v)", e.name, no)}
}

// asksForMore says whether an answer wants a proof, or a better one, and which. A 403 with
// insufficient_scope does, too (RFC 6750, 3.1).
func asksForMore(resp *http.Response) (challenge, bool) {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return challenge{}, false
	}
	offer, ok := pick(challengesOf(resp))
	if resp.StatusCode == http.StatusForbidden {
		ok = ok && offer.insufficient()
	}
	return offer, ok
}

// proof makes what the registry wants to see, as far as that is known.
func (c *Client) proof(ctx context.Context, e *endpoint, offer challenge, scopes []string) (proof, error) {
	if offer.scheme == "" {
		return proof{}, nil
	}
	cred, err := c.wallet.get(ctx, e.name)
	switch {
	case err != nil:
		return proof{}, err
	case cred.RegistryToken != "":
		return proof{header: "Bearer " + cred.RegistryToken, fresh: true}, nil
	case offer.scheme == "basic" && cred.anonymous():
		return proof{fresh: true}, nil
	case offer.scheme == "basic":
		return proof{header: cred.basic(), fresh: true}, nil
	}
	key := tokenKey{cred.fingerprint(), e.name, offer.params["realm"], offer.params["service"], strings.Join(scopes, " ")}
	text, fresh, err := c.shared.tokens.get(ctx, key, c.shared.now, func() (token, error) {
		return c.fetchToken(ctx, e, offer, scopes, cred, false)
	})
	if err != nil {
		return proof{}, err
	}
	return proof{header: "Bearer " + text, key: key, fresh: fresh}, nil
}

// tokenKey is what a token was given for, and to whom.
type tokenKey struct {
	who                    [sha256.Size]byte
	registry               string
	realm, service, scopes string
}

// tokens keeps access tokens until they expire.
type tokens struct {
	mu    sync.Mutex
	slots map[tokenKey]*tokenSlot // guarded by mu
}

// tokenSlot holds one token. Whoever has the token of asking may look and set, so that several who need
// one ask once.
type tokenSlot struct {
	asking chan struct{} // capacity 1
	token  token         // guarded by asking
}

const maxTokens = 1000

// get returns the access token for key, and whether it was fetched just now.
func (t *tokens) get(ctx context.Context, key tokenKey, now func() time.Time, fetch func() (token, error)) (string, bool, error) {
	s := t.slot(key)
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return "", false, context.Cause(ctx)
	}
	if s.token.access != "" && now().Before(s.token.expires) {
		return s.token.access, false, nil
	}
	fetched, err := fetch()
	if err != nil {
		return "", false, err
	}
	s.token = fetched
	return fetched.access, true, nil
}

func (t *tokens) slot(key tokenKey) *tokenSlot {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.slots[key]
	if !ok {
		if len(t.slots) >= maxTokens {
			clear(t.slots)
		}
		s = &tokenSlot{asking: make(chan struct{}, 1)}
		t.slots[key] = s
	}
	return s
}

func (t *tokens) forget(key tokenKey) {
	t.mu.Lock()
	delete(t.slots, key)
	t.mu.Unlock()
}

// refused says whether err means that the registry wants somebody else, or anybody.
func refused(err error) bool {
	return errors.Is(err, errdefs.ErrUnauthenticated) || errors.Is(err, errdefs.ErrPermissionDenied)
}
