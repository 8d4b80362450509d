package registry

import (
	"context"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
)

// Login verifies a credential with the registry at host ("docker.io", "HOST", "HOST:PORT", or an
// address as it stands in config.json). Where its token server gives a refresh token for it, that is
// the identity token to keep instead of the password; else identityToken is "". A registry that wants
// no login takes any. A refused credential is errdefs.ErrUnauthenticated.
func (c *Client) Login(ctx context.Context, host string, cred Credential) (identityToken string, err error) {
	cred = cred.normalize()
	c = c.As(func(context.Context, string) (Credential, error) { return cred, nil })
	e := c.endpointOf(RegistryName(host))
	u, err := c.url(ctx, e, "")
	if err != nil {
		return "", err
	}
	if identityToken, err = c.tryLogin(ctx, e, cred); err != nil {
		return "", err
	}
	resp, err := c.do(ctx, e, request{method: http.MethodGet, url: u})
	switch {
	case err == nil:
		discard(resp)
		return identityToken, nil
	case statusOf(err) == http.StatusUnauthorized, statusOf(err) == http.StatusForbidden:
		return "", say(errdefs.ErrUnauthenticated, err, "registry %s: unauthorized: incorrect username or password", e.name)
	case statusOf(err) == http.StatusNotFound:
		return "", say(errdefs.ErrNotFound, err, "%s is no registry: %v", e.name, err)
	}
	return "", err
}

// tryLogin asks for a refresh token where the registry has a token server.
func (c *Client) tryLogin(ctx context.Context, e *endpoint, cred Credential) (identityToken string, err error) {
	if err := c.ping(ctx, e, e.currentScheme()); err != nil {
		return "", err
	}
	offer := e.wants()
	if offer.scheme != "bearer" || cred.RegistryToken != "" {
		return "", nil
	}
	t, err := c.fetchToken(ctx, e, offer, nil, cred, true)
	return t.refresh, err
}

// RegistryName brings the address of a registry, as people type it or as it stands in config.json
// ("https://index.docker.io/v1/"), to the name that references use.
func RegistryName(address string) string {
	_, rest, ok := strings.Cut(address, "://")
	if !ok {
		rest = address
	}
	host, _, _ := strings.Cut(rest, "/")
	switch host = strings.ToLower(host); host {
	case "", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return dockerHub
	}
	return host
}
