package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
)

const (
	dockerHub     = "docker.io"            // in references
	dockerHubHost = "registry-1.docker.io" // in URLs
)

// endpoint is a registry as it is reached.
type endpoint struct {
	name   string // as in references and for credentials
	host   string // HOST or HOST:PORT in URLs
	prefix string // of every path; "" but for mirrors
	plain  bool   // plain HTTP may be spoken

	mu      sync.Mutex
	scheme  string    // guarded by mu; "": not known yet
	doubt   bool      // guarded by mu; the scheme is to be found out again
	known   challenge // guarded by mu; how it wants to be asked; the zero value: not known, or not at all
	reached bool      // guarded by mu; it has answered before
}

// endpointOf returns the endpoint of the registry with this name in references.
func (c *Client) endpointOf(name string) *endpoint {
	host := name
	if name == dockerHub {
		host = dockerHubHost
	}
	return c.shared.endpoint(endpointKey{name: name, host: host})
}

// pullEndpoints returns where to ask for images of the registry with this name, in order.
func (c *Client) pullEndpoints(name string) []*endpoint {
	var all []*endpoint
	if name == dockerHub {
		for _, m := range c.shared.mirrors {
			all = append(all, c.shared.endpoint(m))
		}
	}
	return append(all, c.endpointOf(name))
}

type endpointKey struct{ name, host, prefix, scheme string }

func (s *shared) endpoint(key endpointKey) *endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.endpoints[key]
	if !ok {
		e = &endpoint{name: key.name, host: key.host, prefix: key.prefix, scheme: key.scheme, plain: s.insecure.allows(key.host)}
		if !e.plain {
			e.scheme = "https"
		}
		s.endpoints[key] = e
	}
	return e
}

// parseMirror reads the URL of a mirror. Plain HTTP must be allowed for its host.
func parseMirror(mirror string, in insecure) (endpointKey, error) {
	u, err := url.Parse(mirror)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && u.Scheme != "http" {
		return endpointKey{}, say(errdefs.ErrInvalidArgument, err, "mirror %q is not a URL like https://mirror.example.com", mirror)
	}
	if u.Scheme == "http" && !in.allows(u.Host) {
		return endpointKey{}, say(errdefs.ErrInvalidArgument, nil, "mirror %q is to be asked in plain HTTP: name %s as insecure, too, or use https", mirror, u.Host)
	}
	return endpointKey{name: u.Host, host: u.Host, prefix: strings.TrimSuffix(u.Path, "/"), scheme: u.Scheme}, nil
}

// url makes a URL of a path below /v2/, which may end in a query. It finds out first whether the
// registry speaks TLS, where that is open.
func (c *Client) url(ctx context.Context, e *endpoint, path string) (*url.URL, error) {
	scheme, err := c.schemeOf(ctx, e)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(scheme + "://" + e.host + e.prefix + "/v2/" + path)
	if err != nil {
		return nil, say(errdefs.ErrInvalidArgument, err, "registry %s: %v", e.name, err)
	}
	return u, nil
}

func (c *Client) schemeOf(ctx context.Context, e *endpoint) (string, error) {
	e.mu.Lock()
	scheme, doubt := e.scheme, e.doubt
	e.mu.Unlock()
	if scheme != "" && !doubt {
		return scheme, nil
	}
	scheme, err := c.probe(ctx, e)
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	e.scheme, e.doubt = scheme, false
	e.mu.Unlock()
	return scheme, nil
}

// probe asks a registry that may be spoken to in plain HTTP over TLS first. Several may do so at once
// and find the same.
func (c *Client) probe(ctx context.Context, e *endpoint) (string, error) {
	secure := c.ping(ctx, e, "https")
	if secure == nil {
		return "https", nil
	}
	_, _, noPort := net.SplitHostPort(e.host) // two ports: 443 and 80
	if notTLS(secure) || noPort != nil && errors.Is(secure, syscall.ECONNREFUSED) {
		if plain := c.ping(ctx, e, "http"); plain == nil || !notTLS(secure) {
			return "http", plain
		}
	}
	return "", secure
}

// ping asks for /v2/ and is content with any answer.
func (c *Client) ping(ctx context.Context, e *endpoint, scheme string) error {
	u := &url.URL{Scheme: scheme, Host: e.host, Path: e.prefix + "/v2/"}
	resp, err := c.send(ctx, request{method: http.MethodGet, url: u})
	if err != nil {
		return err
	}
	discard(resp)
	e.answered()
	if offer, ok := pick(challengesOf(resp)); ok && resp.StatusCode == http.StatusUnauthorized {
		e.learn(offer)
	}
	return nil
}

func (e *endpoint) answered() {
	e.mu.Lock()
	e.reached = true
	e.mu.Unlock()
}

// lost says that a connection failed: where the registry may be spoken to in two ways, it may come back
// in the other.
func (e *endpoint) lost() {
	e.mu.Lock()
	e.doubt = e.plain
	e.mu.Unlock()
}

func (e *endpoint) wasReached() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reached
}

func (e *endpoint) currentScheme() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.scheme
}

func (e *endpoint) learn(offer challenge) {
	e.mu.Lock()
	e.known = offer
	e.mu.Unlock()
}

func (e *endpoint) wants() challenge {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known
}

// owns says whether a URL is at this registry, by scheme, host and port, so that it may see credentials.
func (e *endpoint) owns(u *url.URL) bool {
	return sameOrigin(u, &url.URL{Scheme: e.currentScheme(), Host: e.host})
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

// insecure is the set of hosts that plain HTTP may be spoken to.
type insecure struct {
	hosts    map[string]bool // HOST or HOST:PORT, lower case
	networks []netip.Prefix
}

func parseInsecure(list []string) (insecure, error) {
	in := insecure{hosts: map[string]bool{}}
	for _, item := range list {
		if prefix, err := netip.ParsePrefix(item); err == nil {
			in.networks = append(in.networks, prefix)
			continue
		}
		if item == "" || strings.ContainsAny(item, "/@ ") {
			return insecure{}, say(errdefs.ErrInvalidArgument, nil, "insecure registry %q is neither HOST, HOST:PORT nor a network like 10.0.0.0/8", item)
		}
		in.hosts[strings.ToLower(item)] = true
	}
	return in, nil
}

// allows says whether plain HTTP may be spoken to HOST or HOST:PORT.
func (in insecure) allows(hostport string) bool {
	hostport = strings.ToLower(hostport)
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" || in.hosts[host] || in.hosts[hostport] {
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	if addr.IsLoopback() {
		return true
	}
	for _, n := range in.networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// checkURL refuses a URL that is not https where plain HTTP may not be spoken to its host.
func (in insecure) checkURL(u *url.URL) error {
	switch {
	case u.Host == "" || u.User != nil:
		return fmt.Errorf("%w: %q is not a URL that a registry may name", errPermanent, bare(u))
	case u.Scheme == "https", u.Scheme == "http" && in.allows(u.Host):
		return nil
	}
	return fmt.Errorf("%w: %s is not asked over %q, only over https", errPermanent, u.Host, u.Scheme)
}
