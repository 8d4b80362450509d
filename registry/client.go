package registry

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

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
	// client certificates and keys (NAME.cert, NAME.key), as Docker's /etc/docker/certs.d. They are read
	// when a registry is first asked. "" for none.
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
type Client struct {
	shared *shared
	wallet *wallet
}

// shared is what all Clients made by As have in common.
type shared struct {
	insecure           insecure
	mirrors            []endpointKey
	certsDir           string
	proxy              func(*http.Request) (*url.URL, error)
	userAgent          string
	downloads, uploads int

	tokens  tokens
	flights flights

	// Tests put others in their places.
	stall time.Duration
	chunk int64
	wait  func(context.Context, time.Duration) error
	now   func() time.Time
	dial  func(ctx context.Context, network, address string) (net.Conn, error)

	mu         sync.Mutex
	endpoints  map[endpointKey]*endpoint        // guarded by mu
	transports map[transportKey]*http.Transport // guarded by mu
}

// New returns a Client. The error says which of the options can't be understood.
func New(o Options) (*Client, error) {
	in, err := parseInsecure(o.Insecure)
	if err != nil {
		return nil, err
	}
	s := &shared{
		insecure: in, certsDir: o.CertsDir, proxy: o.Proxy, userAgent: o.UserAgent, downloads: o.Downloads, uploads: o.Uploads,
		tokens:  tokens{slots: map[tokenKey]*tokenSlot{}},
		flights: flights{going: map[digest.Digest]chan struct{}{}},
		stall:   stallTime, chunk: chunkSize, wait: pause, now: time.Now, dial: (&net.Dialer{Timeout: dialTime}).DialContext,
		endpoints: map[endpointKey]*endpoint{}, transports: map[transportKey]*http.Transport{},
	}
	for _, m := range o.Mirrors {
		key, err := parseMirror(m, in)
		if err != nil {
			return nil, err
		}
		s.mirrors = append(s.mirrors, key)
	}
	if s.proxy == nil {
		s.proxy = http.ProxyFromEnvironment
	}
	if s.userAgent == "" {
		s.userAgent = "berth"
	}
	if s.downloads <= 0 {
		s.downloads = 3
	}
	if s.uploads <= 0 {
		s.uploads = 5
	}
	return &Client{shared: s, wallet: newWallet(o.Credentials)}, nil
}

// As returns a Client with other credentials (nil: none) that shares everything else with c, tokens
// included: those are kept by the credential that they were given for.
func (c *Client) As(credentials Credentials) *Client {
	return &Client{shared: c.shared, wallet: newWallet(credentials)}
}

// Close closes idle connections.
func (c *Client) Close() {
	c.shared.mu.Lock()
	defer c.shared.mu.Unlock()
	for _, t := range c.shared.transports {
		t.CloseIdleConnections()
	}
}
