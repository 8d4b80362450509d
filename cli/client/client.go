package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// APIVersion is the version of Docker's API that is asked for. It is the last one whose answers have
// the fields that `inspect -f` has always had (NetworkSettings.IPAddress and its kin).
const APIVersion = "1.51"

// Client makes requests to one engine. It holds no connection between requests and needs no Close. It
// may be used from several goroutines.
type Client struct {
	network, address string
	host             string
	agent            string

	// Start, if set, is called when nothing listens at the socket; then the connection is tried once
	// more. It may be called for each request that finds nobody.
	Start func(context.Context) error

	mu      sync.Mutex
	version string // guarded by mu; becomes older when the engine says so
}

// New returns a client of the engine at host: "unix:///path" or "tcp://host:port" (without TLS). agent
// is the User-Agent.
func New(host, agent string) (*Client, error) {
	c := &Client{host: host, agent: agent, version: APIVersion}
	scheme, rest, ok := strings.Cut(host, "://")
	switch {
	case !ok:
		return nil, fmt.Errorf("%q is not the address of an engine: it wants unix:///path/to/socket or tcp://host:port", host)
	case scheme == "unix":
		if rest == "" {
			return nil, fmt.Errorf("%q names no socket", host)
		}
		c.network, c.address = "unix", rest
	case scheme == "tcp":
		rest = strings.TrimSuffix(rest, "/")
		if _, _, err := net.SplitHostPort(rest); err != nil {
			return nil, fmt.Errorf("%q is not the address of an engine: %w", host, err)
		}
		c.network, c.address = "tcp", rest
	default:
		return nil, fmt.Errorf("engines at %s:// are not supported yet, only unix:// and tcp://", scheme)
	}
	return c, nil
}

// WithoutStart returns a client of the same engine that does not start it.
func (c *Client) WithoutStart() *Client {
	return &Client{network: c.network, address: c.address, host: c.host, agent: c.agent, version: c.Version()}
}

// SetVersion asks for another version of the API, for instance "1.44".
func (c *Client) SetVersion(v string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version = strings.TrimPrefix(v, "v")
}

// Version is the version of the API that requests ask for.
func (c *Client) Version() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// Request is one request. Of JSON and Body at most one is set.
type Request struct {
	Method string
	Path   string // without the version, for instance "/containers/json"
	Query  url.Values
	Header map[string]string
	JSON   any       // becomes the body
	Body   io.Reader // sent in chunks while the answer is already being read
	// Unversioned leaves the version out of the path (/_ping, Berth's own endpoints).
	Unversioned bool
}

// Do sends the request and returns the answer when its head is there. A status of 400 and above is
// returned as *Error. The caller closes the answer's Body; cancelling ctx ends the connection, also
// while the body is read.
func (c *Client) Do(ctx context.Context, req Request) (*Response, error) {
	resp, err := c.roundTrip(ctx, req, "")
	if v, ok := olderVersion(err); ok && req.Body == nil && !req.Unversioned {
		c.SetVersion(v)
		resp, err = c.roundTrip(ctx, req, "")
	}
	return resp, err
}

// Call sends in as JSON (nil: no body) and decodes the answer into out (nil: it is thrown away).
func (c *Client) Call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	resp, err := c.Do(ctx, Request{Method: method, Path: path, Query: query, JSON: in})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err != nil {
		return c.readError(ctx, method+" "+path, err)
	}
	return nil
}

// Raw is Call for an answer that is wanted as it came.
func (c *Client) Raw(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
	resp, err := c.Do(ctx, Request{Method: method, Path: path, Query: query})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, c.readError(ctx, method+" "+path, err)
	}
	return b, nil
}

func (c *Client) readError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("the engine's answer to %s could not be read: %w", what, err)
}

// Upgrade sends the request with "Upgrade: protocol" and hands the connection over: after the answer's
// head (101, or 200 as old engines say) it is a plain stream both ways. The caller closes it.
func (c *Client) Upgrade(ctx context.Context, req Request, protocol string) (*Stream, error) {
	resp, err := c.roundTrip(ctx, req, protocol)
	if v, ok := olderVersion(err); ok && req.Body == nil && !req.Unversioned {
		c.SetVersion(v)
		resp, err = c.roundTrip(ctx, req, protocol)
	}
	if err != nil {
		return nil, err
	}
	if resp.Status != 101 && resp.Status != 200 {
		resp.Body.Close()
		return nil, fmt.Errorf("the engine answered %s with status %d instead of handing the connection over", req.Path, resp.Status)
	}
	return &Stream{Header: resp.Header, conn: resp.conn, r: resp.r}, nil
}

// roundTrip sends req on a connection of its own and reads the head of the answer.
func (c *Client) roundTrip(ctx context.Context, req Request, upgrade string) (*Response, error) {
	var body []byte
	if req.JSON != nil {
		var err error
		if body, err = json.Marshal(req.JSON); err != nil {
			return nil, fmt.Errorf("the body of %s %s: %w", req.Method, req.Path, err)
		}
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	fail := func(err error) error {
		stop()
		_ = conn.Close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	if err := c.send(conn, req, body, upgrade); err != nil {
		return nil, fail(fmt.Errorf("the request could not be sent to the engine at %s: %w", c.host, err))
	}
	var sent chan error
	if req.Body != nil {
		sent = make(chan error, 1)
		go func() { sent <- sendChunks(conn, req.Body) }()
	}
	r := bufio.NewReaderSize(conn, 32<<10)
	resp, err := readResponse(r, req.Method, upgrade != "")
	if err != nil {
		if sent != nil {
			conn.Close()
			if sendErr := (*bodyError)(nil); errors.As(<-sent, &sendErr) {
				return nil, fail(sendErr.err)
			}
		}
		return nil, fail(fmt.Errorf("the engine at %s ended the connection without an answer to %s %s: %w", c.host, req.Method, req.Path, err))
	}
	resp.conn, resp.r = conn, r
	resp.Body = &responseBody{Reader: resp.Body, close: func() error { stop(); return conn.Close() }, sent: sent}
	if resp.Status >= 400 {
		defer resp.Body.Close()
		return nil, readErrorBody(resp)
	}
	if upgrade != "" {
		stop()
	}
	return resp, nil
}

func (c *Client) send(w io.Writer, req Request, body []byte, upgrade string) error {
	var b bytes.Buffer
	b.WriteString(req.Method)
	b.WriteByte(' ')
	if !req.Unversioned {
		b.WriteString("/v" + c.Version())
	}
	b.WriteString(req.Path)
	if len(req.Query) > 0 {
		b.WriteString("?" + req.Query.Encode())
	}
	b.WriteString(" HTTP/1.1\r\nHost: ")
	if c.network == "tcp" {
		b.WriteString(c.address)
	} else {
		b.WriteString("api.moby.localhost")
	}
	b.WriteString("\r\nUser-Agent: " + c.agent + "\r\n")
	for k, v := range req.Header {
		if strings.ContainsAny(k+v, "\r\n") {
			return fmt.Errorf("the header %q has a line break in it", k)
		}
		b.WriteString(k + ": " + v + "\r\n")
	}
	if upgrade != "" {
		b.WriteString("Connection: Upgrade\r\nUpgrade: " + upgrade + "\r\n")
	} else {
		b.WriteString("Connection: close\r\n")
	}
	switch {
	case req.Body != nil:
		if _, ok := req.Header["Content-Type"]; !ok {
			b.WriteString("Content-Type: application/x-tar\r\n")
		}
		b.WriteString("Transfer-Encoding: chunked\r\n")
	case body != nil:
		b.WriteString("Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n")
	case req.Method == "POST" || req.Method == "PUT":
		b.WriteString("Content-Length: 0\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	_, err := w.Write(b.Bytes())
	return err
}

// dial connects, if need be after the engine was started.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.connect(ctx)
	var none *ConnectError
	if c.Start == nil || !errors.As(err, &none) || !none.NotListening() {
		return conn, err
	}
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	return c.connect(ctx)
}

// connect makes a connection. A socket's path can be longer than the 108 bytes of sockaddr_un: then the directory
// is opened and the socket named through /proc/self/fd.
func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	address := c.address
	if c.network == "unix" && len(address) > maxSocketPath {
		dir, err := os.Open(filepath.Dir(address))
		if err != nil {
			return nil, &ConnectError{Host: c.host, Err: err}
		}
		defer dir.Close()
		address = "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(address)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, c.network, address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &ConnectError{Host: c.host, Err: err}
	}
	return conn, nil
}

// maxSocketPath is sizeof(sun_path) less its final zero (unix(7)).
const maxSocketPath = 107

// ConnectError says that no engine answered.
type ConnectError struct {
	Host string
	Err  error
}

func (e *ConnectError) Error() string {
	switch {
	case errors.Is(e.Err, syscall.EACCES):
		return fmt.Sprintf("permission denied at %s: the engine's socket belongs to root, or to the group that berthd was given with --group", e.Host)
	case e.NotListening():
		return fmt.Sprintf("cannot connect to the engine at %s: is berthd running?", e.Host)
	}
	var op *net.OpError
	if errors.As(e.Err, &op) {
		return fmt.Sprintf("cannot connect to the engine at %s: %v", e.Host, op.Err)
	}
	return fmt.Sprintf("cannot connect to the engine at %s: %v", e.Host, e.Err)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// NotListening tells whether there is no socket, or one that nobody listens at: the two cases in which
// starting an engine helps.
func (e *ConnectError) NotListening() bool {
	return errors.Is(e.Err, syscall.ENOENT) || errors.Is(e.Err, syscall.ECONNREFUSED)
}

// Error is an answer of the engine with a status of 400 and above.
type Error struct {
	Status  int
	Message string // the engine's sentence
}

func (e *Error) Error() string { return e.Message }

// IsNotFound tells whether err is the engine's 404.
func IsNotFound(err error) bool { return hasStatus(err, 404) }

// IsConflict tells whether err is the engine's 409.
func IsConflict(err error) bool { return hasStatus(err, 409) }

func hasStatus(err error, status int) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == status
}

func readErrorBody(resp *Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil && len(b) == 0 {
		return fmt.Errorf("the engine answered with status %d, and its reason could not be read: %w", resp.Status, err)
	}
	var body struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(b, &body) != nil || body.Message == "" {
		body.Message = strings.TrimSpace(string(b))
	}
	if body.Message == "" {
		body.Message = "the engine answered with status " + strconv.Itoa(resp.Status) + " and no reason"
	}
	return &Error{Status: resp.Status, Message: body.Message}
}

// olderVersion reads moby's "client version 1.51 is too new. Maximum supported API version is 1.47".
func olderVersion(err error) (string, bool) {
	var e *Error
	if !errors.As(err, &e) || e.Status != 400 {
		return "", false
	}
	_, v, ok := strings.Cut(e.Message, "Maximum supported API version is ")
	return strings.TrimRight(v, ". \n"), ok
}
