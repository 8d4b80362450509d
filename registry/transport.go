package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

const (
	maxRedirects = 10
	dialTime     = 30 * time.Second
	// stallTime is how long a connection may bring nothing, or take nothing, before it counts as lost.
	stallTime = time.Minute
	// commitTime is how long a registry may take to answer after it has all of an upload: it may be
	// copying gigabytes into a blob store.
	commitTime = 15 * time.Minute
)

var errStalled = errors.New("nothing has moved for too long")

// request is one request of the protocol. It may be sent more than once.
type request struct {
	method string
	url    *url.URL
	header http.Header
	// body opens the body from its beginning; nil for none. It has size bytes.
	body func() (io.ReadCloser, error)
	size int64
	// scopes are what a token for it must allow.
	scopes []string
	// authorization is shown to the scheme, host and port of url, and nobody else; "" for none.
	authorization string
	// anonymous says that no credentials are shown, wherever it goes.
	anonymous bool
	// secret says that the body may not be redirected to another host.
	secret bool
	// once says that whoever asks handles failures of the transport, and 5xx answers.
	once bool
}

// send sends a request and follows redirects, which lose the authorization when they lead elsewhere
// (Go's client would also take it to sub-domains and other ports). An answer of any status is no
// error. The body must be closed.
func (c *Client) send(ctx context.Context, rq request) (*http.Response, error) {
	at := rq.url
	for range maxRedirects {
		if err := c.shared.insecure.checkURL(at); err != nil {
			return nil, say(errdefs.ErrUnavailable, err, "registry %s: %v", rq.url.Host, err)
		}
		header := rq.header.Clone()
		if header == nil {
			header = http.Header{}
		}
		if rq.authorization != "" && sameOrigin(at, rq.url) {
			header.Set("Authorization", rq.authorization)
		}
		resp, err := c.roundTrip(ctx, rq, at, header)
		if err != nil {
			return nil, err
		}
		next, err := redirect(resp, rq)
		if err != nil || next == nil {
			return resp, err
		}
		discard(resp)
		if rq.secret && !sameOrigin(next, rq.url) {
			return nil, say(errdefs.ErrUnavailable, errPermanent, "token server %s leads credentials to %s, which is refused", rq.url.Host, next.Host)
		}
		if at.Scheme == "https" && next.Scheme != "https" && !c.shared.insecure.allows(at.Host) {
			return nil, say(errdefs.ErrUnavailable, errPermanent, "registry %s: it leads from https to %s at %s, which is refused", rq.url.Host, next.Scheme, next.Host)
		}
		at = next
	}
	return nil, say(errdefs.ErrUnavailable, errPermanent, "registry %s: more than %d redirects for %s", rq.url.Host, maxRedirects, bare(rq.url))
}

// redirect returns where an answer leads, or nil where it is the last.
func redirect(resp *http.Response, rq request) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		if rq.method != http.MethodGet && rq.method != http.MethodHead {
			return nil, nil // would become a GET: no registry means that
		}
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	next, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		discard(resp)
		return nil, say(errdefs.ErrUnavailable, errPermanent, "registry %s: it redirects %s to nowhere", rq.url.Host, bare(rq.url))
	}
	return next, nil
}

// roundTrip sends one HTTP request and guards it against a connection that has gone silent.
func (c *Client) roundTrip(ctx context.Context, rq request, at *url.URL, header http.Header) (*http.Response, error) {
	transport, err := c.shared.transport(at.Host)
	if err != nil {
		return nil, err
	}
	guard := newGuard(ctx, c.shared.stall)
	hr, err := guard.request(rq, at)
	if err != nil {
		guard.end()
		return nil, err
	}
	hr.Header = header
	hr.Header.Set("User-Agent", c.shared.userAgent)
	hr.Header.Set("Accept-Encoding", "identity") // else Go un-gzips in silence
	resp, err := transport.RoundTrip(hr)
	if err != nil {
		err = guard.explain(err)
		guard.end()
		if broken := guard.broken.Load(); broken != nil {
			return nil, *broken
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, unreachable(at.Host, err)
	}
	guard.timer.Stop()
	resp.Body = &guardedBody{resp.Body, guard}
	return resp, nil
}

// guard ends a request when nothing has moved for stall.
type guard struct {
	timer  *time.Timer
	stall  time.Duration
	ctx    context.Context // of this request alone
	cancel context.CancelCauseFunc
	broken atomic.Pointer[error] // what went wrong when the body to be sent was read
}

func newGuard(ctx context.Context, stall time.Duration) *guard {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(stall, func() { cancel(errStalled) })
	return &guard{timer: timer, stall: stall, ctx: ctx, cancel: cancel}
}

func (g *guard) end() {
	g.timer.Stop()
	g.cancel(nil)
}

// explain says why the request ended where it was ended from outside.
func (g *guard) explain(err error) error {
	if cause := context.Cause(g.ctx); cause != nil {
		return cause
	}
	return err
}

func (g *guard) request(rq request, at *url.URL) (*http.Request, error) {
	if rq.body == nil {
		return http.NewRequestWithContext(g.ctx, rq.method, at.String(), nil)
	}
	body, err := rq.body()
	if err != nil {
		return nil, err
	}
	hr, err := http.NewRequestWithContext(g.ctx, rq.method, at.String(), &sentBody{body, g})
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	hr.ContentLength = rq.size
	if rq.size == 0 {
		err = body.Close()
		hr.Body = http.NoBody
	}
	return hr, err
}

// sentBody is the body of an upload. Every Read means that what was read before has been sent.
type sentBody struct {
	io.ReadCloser
	guard *guard
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.guard.timer.Reset(b.guard.stall)
	n, err := b.ReadCloser.Read(p)
	switch err {
	case nil:
	case io.EOF:
		b.guard.timer.Reset(commitTime)
	default:
		b.guard.broken.Store(&err)
	}
	return n, err
}

// guardedBody is the body of an answer. The clock runs only while somebody reads.
type guardedBody struct {
	io.ReadCloser
	guard *guard
}

func (b *guardedBody) Read(p []byte) (int, error) {
	b.guard.timer.Reset(b.guard.stall)
	n, err := b.ReadCloser.Read(p)
	b.guard.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.guard.explain(err)
	}
	return n, err
}

func (b *guardedBody) Close() error {
	err := b.ReadCloser.Close()
	b.guard.end()
	return err
}

// discard reads the little that may be left of an answer, so that its connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBody))
	_ = resp.Body.Close()
}

// transport returns the connections to a host, which may have certificates of its own.
func (s *shared) transport(host string) (*http.Transport, error) {
	own := ""
	if s.certsDir != "" {
		dir := filepath.Join(s.certsDir, filepath.Base(host)) // a host has no slash
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			own = dir
		}
	}
	key := transportKey{own, s.insecure.allows(host)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.transports[key]; ok {
		return t, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: key.insecure}
	if own != "" {
		if err := readCerts(config, own); err != nil {
			return nil, say(errdefs.ErrFailedPrecondition, err, "certificates for registry %s: %v", host, err)
		}
	}
	t := s.newTransport(config)
	s.transports[key] = t
	return t, nil
}

type transportKey struct {
	certs    string // directory, or ""
	insecure bool
}

// newTransport speaks HTTP/1.1 only: several layers on one HTTP/2 connection share one TCP window, and
// Go's gives each stream 4 MiB, 40 MB/s where a round trip takes 100 ms.
func (s *shared) newTransport(config *tls.Config) *http.Transport {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  s.proxy,
		DialContext:            s.dial,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    15 * time.Second,
		Protocols:              protocols,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         64 << 10,
		WriteBufferSize:        64 << 10,
	}
}

// readCerts reads a directory of certs.d: *.crt are CAs, NAME.cert and NAME.key a client's
// certificate and key. CAs are trusted beside the system's.
func readCerts(config *tls.Config, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		switch filepath.Ext(path) {
		case ".crt":
			pem, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !pool.AppendCertsFromPEM(pem) {
				return fmt.Errorf("%s has no certificate in it", path)
			}
		case ".cert":
			pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			config.Certificates = append(config.Certificates, pair)
		}
	}
	config.RootCAs = pool
	return nil
}
