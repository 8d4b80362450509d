package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
)

// Response is an answer whose body is still to be read.
type Response struct {
	Status int
	Header textproto.MIMEHeader
	Body   io.ReadCloser

	conn net.Conn
	r    *bufio.Reader
}

const maxHeadLines = 200

// readResponse reads status line and header and works out where the body ends (RFC 9112, 6.3).
func readResponse(r *bufio.Reader, method string, upgrade bool) (*Response, error) {
	for {
		tp := textproto.NewReader(r)
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		proto, rest, _ := strings.Cut(line, " ")
		code, _, _ := strings.Cut(rest, " ")
		status, err := strconv.Atoi(code)
		if err != nil || !strings.HasPrefix(proto, "HTTP/1.") || status < 100 || status > 999 {
			return nil, fmt.Errorf("%q is not the first line of an HTTP answer", line)
		}
		header, err := tp.ReadMIMEHeader()
		if err != nil {
			return nil, unexpected(err)
		}
		if status < 200 && status != 101 {
			continue // 100 Continue and its kin announce an answer, they are none
		}
		resp := &Response{Status: status, Header: header}
		resp.Body, err = bodyOf(r, resp, method, upgrade)
		return resp, err
	}
}

func bodyOf(r *bufio.Reader, resp *Response, method string, upgrade bool) (io.ReadCloser, error) {
	switch {
	case upgrade && (resp.Status == 101 || resp.Status == 200), method == "HEAD", resp.Status == 204, resp.Status == 304:
		return io.NopCloser(strings.NewReader("")), nil
	case strings.EqualFold(resp.Header.Get("Transfer-Encoding"), "chunked"):
		return io.NopCloser(&chunkedReader{r: r}), nil
	case resp.Header.Get("Transfer-Encoding") != "":
		return nil, fmt.Errorf("an answer with the transfer encoding %q", resp.Header.Get("Transfer-Encoding"))
	case resp.Header.Get("Content-Length") != "":
		n, err := strconv.ParseInt(strings.TrimSpace(resp.Header.Get("Content-Length")), 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("an answer with the content length %q", resp.Header.Get("Content-Length"))
		}
		return io.NopCloser(&lengthReader{r: r, left: n}), nil
	}
	return io.NopCloser(r), nil // until the connection ends
}

// readLine reads a line of the protocol, without its end. Nothing in it is longer than the buffer.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errors.New("a line of the HTTP answer is too long")
	}
	if err != nil {
		return "", unexpected(err)
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// lengthReader reads exactly left bytes; an earlier end is an error.
type lengthReader struct {
	r    io.Reader
	left int64
}

func (l *lengthReader) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	if err == io.EOF && l.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// chunkedReader reads the chunked transfer encoding (RFC 9112, 7.1). Extensions and trailers are
// skipped.
type chunkedReader struct {
	r     *bufio.Reader
	left  int64
	begun bool
	err   error
}

func (c *chunkedReader) Read(p []byte) (int, error) {
	for c.err == nil && c.left == 0 {
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.r.Read(p)
	c.left -= int64(n)
	if err != nil {
		c.err = unexpected(err)
		err = c.err
	}
	return n, err
}

// next reads the line before a chunk, and at the last one the trailer: io.EOF.
func (c *chunkedReader) next() error {
	if c.begun {
		if line, err := readLine(c.r); err != nil || line != "" {
			return malformed(err, "a chunk that is longer than it said")
		}
	}
	c.begun = true
	line, err := readLine(c.r)
	if err != nil {
		return err
	}
	size, _, _ := strings.Cut(line, ";")
	n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
	if err != nil || n < 0 {
		return malformed(nil, "a chunk of the size "+strconv.Quote(size))
	}
	if c.left = n; n > 0 {
		return nil
	}
	for range maxHeadLines {
		line, err := readLine(c.r)
		if err != nil {
			return err
		}
		if line == "" {
			return io.EOF
		}
	}
	return malformed(nil, "a trailer without end")
}

func malformed(err error, what string) error {
	if err != nil {
		return err
	}
	return errors.New("an HTTP answer with " + what)
}

// sendChunks sends r in the chunked encoding. An error of r itself comes back as *bodyError, and the
// last chunk is then not sent, so that the engine does not take what it got for the whole.
func sendChunks(w io.Writer, r io.Reader) error {
	const room = 20 // for the line before
	buf := make([]byte, room+64<<10+2)
	for {
		n, err := r.Read(buf[room : len(buf)-2])
		if n > 0 {
			head := strconv.FormatInt(int64(n), 16) + "\r\n"
			start := room - len(head)
			copy(buf[start:], head)
			copy(buf[room+n:], "\r\n")
			if _, err := w.Write(buf[start : room+n+2]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			_, err = io.WriteString(w, "0\r\n\r\n")
			return err
		}
		if err != nil {
			if c, ok := w.(io.Closer); ok {
				c.Close()
			}
			return &bodyError{err}
		}
	}
}

// bodyError is an error of what was to be sent, not of the connection.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// responseBody is an answer's body: closing it ends the connection, and with it the sending of the request.
// When sending failed because of what was to be sent, reading says so.
type responseBody struct {
	io.Reader
	close func() error
	sent  chan error
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF && b.sent != nil {
		select {
		case sendErr := <-b.sent:
			b.sent <- sendErr
			if be := (*bodyError)(nil); errors.As(sendErr, &be) {
				err = be.err
			}
		default:
		}
	}
	return n, err
}

func (b *responseBody) Close() error { return b.close() }

// Stream is a connection that was handed over.
type Stream struct {
	Header textproto.MIMEHeader
	conn   net.Conn
	r      *bufio.Reader
}

func (s *Stream) Read(p []byte) (int, error)  { return s.r.Read(p) }
func (s *Stream) Write(p []byte) (int, error) { return s.conn.Write(p) }

// CloseWrite tells the other side that nothing more comes; reading goes on.
func (s *Stream) CloseWrite() error {
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.New("this connection cannot be closed one way only")
}

// Close ends the connection. That it could not be closed would help nobody.
func (s *Stream) Close() { _ = s.conn.Close() }
