package registry

import (
	"context"
	"net/http"
	"net/url"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Credential is what one registry is told about who asks. The zero value asks anonymously.
type Credential struct {
	Username, Password string
	// IdentityToken is a refresh token that the registry's token server gave at login. It is used in
	// place of Password. A credential helper marks one by the user name "<token>" and puts it where
	// the password belongs; that form is understood too.
	IdentityToken string
	// RegistryToken is an access token that is sent as it is.
	RegistryToken string
}

// Credentials finds the credential for host, which is the domain of a reference as Docker writes it:
// "docker.io" for Docker Hub (whose entry in config.json is "https://index.docker.io/v1/"), else
// "HOST" or "HOST:PORT". No credential is no error. It is asked once for each host and Client.
type Credentials func(ctx context.Context, host string) (Credential, error)

// Options configure a Client. The zero value is ready for use.
type Options struct {
	// Credentials; nil asks everything anonymously.
	Credentials Credentials
	// Insecure names registries that may be spoken to in plain HTTP, and over TLS without a look at
	// their certificate: "HOST", "HOST:PORT", an address, or a network in CIDR form (which is compared
	// with addresses in references only; no name is looked up for it). Loopback addresses always may.
	Insecure []string
	// Mirrors are URLs of registries that are asked for images of docker.io before Docker Hub is.
	Mirrors []string
	// CertsDir holds a directory for each registry ("HOST:PORT") with CA certificates (*.crt), and
	// client certificates and keys (NAME.cert, NAME.key), as Docker's /etc/docker/certs.d. "" for none.
	CertsDir string
	// Proxy chooses the proxy of a request; nil means http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
	// UserAgent; "" means "berth".
	UserAgent string
	// Downloads and Uploads are how many blobs of one Pull or Push are under way together. 0 means 3 and 5.
	Downloads, Uploads int
}

// Client speaks to registries. It may be used from several goroutines, and is meant to live long: it
// keeps connections, and tokens until they expire.
type Client struct{}

// New returns a Client. The error says which of the options can't be understood.
func New(o Options) (*Client, error) { return nil, errNotBuilt }

// As returns a Client with other credentials that shares everything else with c, tokens included: those
// are kept by the credential that they were given for.
func (c *Client) As(credentials Credentials) *Client { return c }

// Close closes idle connections.
func (c *Client) Close() {}

// Resolve asks the registry what ref points at now: media type, digest and size of a manifest or an
// index. A reference with a digest is looked up, too. Errors: see the package's kinds in Pull.
func (c *Client) Resolve(ctx context.Context, ref reference.Named) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, errNotBuilt
}

// Login verifies a credential with the registry at host ("docker.io", "HOST", "HOST:PORT"). Where its
// token server gives a refresh token for it, that is the identity token to keep instead of the
// password; else identityToken is "". A refused credential is errdefs.ErrUnauthenticated.
func (c *Client) Login(ctx context.Context, host string, cred Credential) (identityToken string, err error) {
	return "", errNotBuilt
}
