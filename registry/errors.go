package registry

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// sentence is an error that is written to be shown, with a kind of errdefs and what it came from.
type sentence struct {
	text  string
	kind  error
	cause error // may be nil
}

func (s *sentence) Error() string { return s.text }

func (s *sentence) Unwrap() []error {
	if s.cause == nil {
		return []error{s.kind}
	}
	return []error{s.kind, s.cause}
}

func say(kind, cause error, format string, args ...any) error {
	return &sentence{fmt.Sprintf(format, args...), kind, cause}
}

// Codes of distribution-spec 1.1, "Error Codes", that decide something here.
const (
	codeUnauthorized    = "UNAUTHORIZED"
	codeDenied          = "DENIED"
	codeNameUnknown     = "NAME_UNKNOWN"
	codeManifestUnknown = "MANIFEST_UNKNOWN"
	codeBlobUnknown     = "MANIFEST_BLOB_UNKNOWN"
)

// statusError is an answer that means failure.
type statusError struct {
	method string
	url    string // without query: an upload's carries state, a blob store's a signature
	status int
	// code and message of the first error in the body; message may be any text, cut short.
	code, message string
	retryAfter    time.Duration
}

const maxErrorBody = 64 << 10

// failure makes an error of an answer, reads its body and closes it.
func failure(resp *http.Response, now time.Time) *statusError {
	defer resp.Body.Close()
	e := &statusError{method: resp.Request.Method, url: bare(resp.Request.URL), status: resp.StatusCode}
	e.retryAfter = retryAfter(resp.Header.Get("Retry-After"), now)
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what can't be read says nothing
	e.code, e.message = parseErrorBody(body)
	return e
}

func bare(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// parseErrorBody understands the bodies of registries ({"errors": [{code, message}]}), of token servers
// ({"details"}, {"message"}, or OAuth 2's {"error", "error_description"}), and plain text.
func parseErrorBody(body []byte) (code, message string) {
	var b struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Details     any    `json:"details"`
		Message     string `json:"message"`
		Error       any    `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &b) != nil {
		return "", printable(string(body))
	}
	if len(b.Errors) > 0 {
		return b.Errors[0].Code, printable(b.Errors[0].Message)
	}
	for _, text := range []any{b.Details, b.Message, b.Description, b.Error} {
		if s, ok := text.(string); ok && s != "" {
			return "", printable(s)
		}
	}
	return "", ""
}

// printable is what a registry says, fit for a terminal and a line.
func printable(s string) string {
	const most = 300
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\uFFFD' }), " ")
	s = strings.Map(func(r rune) rune {
		if r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
	if strings.HasPrefix(s, "<") { // a web page of a proxy
		return ""
	}
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s %s: %d %s", e.method, e.url, e.status, http.StatusText(e.status))
	if e.code != "" {
		text = printable(strings.ToLower(strings.ReplaceAll(e.code, "_", " ")))
	}
	if e.message != "" && !strings.EqualFold(e.message, text) { // many say the code in small letters
		text += ": " + e.message
	}
	if e.retryAfter > longestWait {
		text += fmt.Sprintf(" (it may be asked again in %v)", e.retryAfter.Round(time.Second))
	}
	return text
}

// Unwrap gives the kind.
func (e *statusError) Unwrap() error {
	switch {
	case e.status == http.StatusUnauthorized:
		return errdefs.ErrUnauthenticated
	case e.status == http.StatusForbidden:
		return errdefs.ErrPermissionDenied
	case e.status == http.StatusNotFound:
		return errdefs.ErrNotFound
	case e.status == http.StatusTooManyRequests, e.status == http.StatusRequestEntityTooLarge:
		return errdefs.ErrResourceExhausted
	case e.status >= 500:
		return errdefs.ErrUnavailable
	case e.status >= 400:
		return errdefs.ErrInvalidArgument
	}
	return errdefs.ErrUnknown
}

// statusOf returns the HTTP status that err is about, or 0.
func statusOf(err error) int {
	var s *statusError
	if errors.As(err, &s) {
		return s.status
	}
	return 0
}

func codeOf(err error) string {
	var s *statusError
	if errors.As(err, &s) {
		return s.code
	}
	return ""
}

// unreachable writes the sentence for a request that got no answer.
func unreachable(host string, err error) error {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		cert      x509.CertificateInvalidError
		dns       *net.DNSError
	)
	switch {
	case errors.As(err, &authority):
		return say(errdefs.ErrUnavailable, err, "registry %s: its certificate is signed by nobody that this machine trusts (%v): "+
			"put the CA's certificate where the engine looks for it (certs.d/%s/ca.crt), or name the registry as insecure", host, err, host)
	case errors.As(err, &name), errors.As(err, &cert):
		return say(errdefs.ErrUnavailable, err, "registry %s: its certificate is not valid: %v", host, err)
	case notTLS(err):
		return say(errdefs.ErrUnavailable, err, "registry %s speaks plain HTTP, which is only spoken to this machine (localhost) "+
			"and to registries named as insecure", host)
	case errors.As(err, &dns) && dns.IsNotFound:
		return say(errdefs.ErrUnavailable, err, "registry %s cannot be reached: there is no host of that name (%v)", host, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return say(errdefs.ErrUnavailable, err, "registry %s cannot be reached: nothing listens there (%v)", host, err)
	case errors.Is(err, errStalled):
		return say(errdefs.ErrUnavailable, err, "registry %s does not answer any more: %v", host, err)
	}
	return say(errdefs.ErrUnavailable, err, "registry %s cannot be reached: %v", host, err)
}

// notTLS says whether err means that the other side speaks, but not TLS.
func notTLS(err error) bool {
	var record tls.RecordHeaderError
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &record)
}
