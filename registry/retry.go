package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

const (
	maxAttempts = 5
	firstDelay  = 250 * time.Millisecond
	longDelay   = 10 * time.Second
	// longestWait is the longest Retry-After that is waited for; beyond it the user is told.
	longestWait = time.Minute
)

// errPermanent is in what would fail again.
var errPermanent = errors.New("refused")

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// backoff is how long to wait after the failure of attempt 0, 1, …, with jitter, so that those whom
// one event has thrown out don't come back together.
func backoff(attempt int) time.Duration {
	d := min(firstDelay<<attempt, longDelay)
	return d*3/4 + rand.N(d/2)
}

// retryAfter reads a Retry-After header (RFC 9110, 10.2.3): seconds or a date; 0 where there is none.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(header, 10, 32); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// again decides whether what failed with err is worth another attempt, and after how long. reached
// says that the host has answered before, so that a refused connection is a restart and no mistake in
// the name.
func again(ctx context.Context, err error, attempt int, reached bool) (time.Duration, bool) {
	if ctx.Err() != nil || attempt+1 >= maxAttempts || errors.Is(err, errPermanent) {
		return 0, false
	}
	var status *statusError
	if errors.As(err, &status) {
		switch status.status {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return max(backoff(attempt), status.retryAfter), status.retryAfter <= longestWait
		}
		return 0, false
	}
	return backoff(attempt), passing(err, reached)
}

// passing says whether a failure of the transport may be over the next time.
func passing(err error, reached bool) bool {
	var (
		certificate *tls.CertificateVerificationError
		dns         *net.DNSError
		op          *net.OpError
	)
	switch {
	case errors.As(err, &certificate), notTLS(err):
		return false
	case errors.As(err, &dns):
		return dns.IsTemporary || dns.IsTimeout
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, errStalled):
		return true
	case errors.As(err, &op) && op.Op == "dial":
		return reached
	}
	return true // cut off in the middle, in one of many ways
}
