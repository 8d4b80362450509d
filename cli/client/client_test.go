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
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serve is a real HTTP server (Go's own) on a unix socket.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	return serveAt(t, filepath.Join(t.TempDir(), "s"), h)
}

func serveAt(t *testing.T, path string, h http.HandlerFunc) *Client {
	t.Helper()
	// The address is a short one through the directory, so that the test may use long paths.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { s.Close(); <-done })
	c, err := New("unix://"+path, "test/1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCall(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"method": r.Method, "path": r.URL.Path, "query": r.URL.RawQuery, "body": string(body), "type": r.Header.Get("Content-Type"),
			"agent": r.UserAgent(), "length": r.ContentLength, "escaped": r.URL.EscapedPath(),
		})
	})
	var got struct {
		Method, Path, Query, Body, Type, Agent, Escaped string
		Length                                          int64
	}
	ctx := context.Background()
	if err := c.Call(ctx, "POST", "/x", map[string][]string{"a": {"1 2"}}, map[string]int{"n": 1}, &got); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPost || got.Path != "/v"+APIVersion+"/x" || got.Query != "a=1+2" || got.Body != `{"n":1}` || got.Type != "application/json" || got.Agent != "test/1" {
		t.Errorf("%+v", got)
	}
	if err := c.Call(ctx, "POST", ImagePath("host:1/a b/c", "/tag"), nil, nil, &got); err != nil || got.Length != 0 || got.Escaped != "/v"+APIVersion+"/images/host:1/a%20b/c/tag" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBodiesBothWays(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/length") {
			w.Header().Set("Content-Length", fmt.Sprint(len(big)))
		}
		if r.Method == http.MethodPost {
			_, _ = io.Copy(w, r.Body)
			return
		}
		_, _ = w.Write(big)
	})
	for _, req := range []Request{
		{Method: "GET", Path: "/length"}, {Method: "GET", Path: "/chunked"}, {Method: "POST", Path: "/echo", Body: bytes.NewReader(big)},
	} {
		resp, err := c.Do(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, big) {
			t.Errorf("%s: %d bytes, %v", req.Path, len(got), err)
		}
		resp.Body.Close()
	}
}

func TestEngineErrors(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/json"):
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"message":"No such container: x"}`)
		case strings.HasSuffix(r.URL.Path, "/text"):
			http.Error(w, "plain words", http.StatusConflict)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	for path, want := range map[string]string{"/json": "No such container: x", "/text": "plain words", "/empty": "the engine answered with status 500 and no reason"} {
		err := c.Call(context.Background(), "GET", path, nil, nil, nil)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v", path, err)
		}
		if IsNotFound(err) != (path == "/json") || IsConflict(err) != (path == "/text") {
			t.Errorf("%s: the kind is wrong", path)
		}
	}
	// An engine may refuse before it has read the body.
	_, err := c.Do(context.Background(), Request{Method: "POST", Path: "/json", Body: neverEnding{}})
	if err == nil || err.Error() != "No such container: x" {
		t.Errorf("with a body on its way: %v", err)
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

// TestBrokenBody: an error of what is sent is the error that is seen, and the engine does not take what
// it got for the whole.
func TestBrokenBody(t *testing.T) {
	seen := make(chan error, 1)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		seen <- err
	})
	broken := errors.New("the disk is on fire")
	_, err := c.Do(context.Background(), Request{Method: "POST", Path: "/x", Body: io.MultiReader(strings.NewReader("some"), failing{broken})})
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if err := <-seen; err == nil {
		t.Error("the engine took the part for the whole")
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestOlderEngine(t *testing.T) {
	var paths []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		if strings.HasPrefix(r.URL.Path, "/v"+APIVersion) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"message":"client version `+APIVersion+` is too new. Maximum supported API version is 1.41"}`)
			return
		}
		_, _ = io.WriteString(w, "{}")
	})
	for range 2 {
		if err := c.Call(context.Background(), "GET", "/info", nil, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(paths, " "); got != "/v"+APIVersion+"/info /v1.41/info /v1.41/info" {
		t.Error(got)
	}
}

func TestUpgrade(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "tcp" || r.Header.Get("Connection") != "Upgrade" {
			http.Error(w, "no upgrade", http.StatusBadRequest)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		// The first words of the stream come in the same packet as the head.
		fmt.Fprint(rw, "HTTP/1.1 101 UPGRADED\r\nContent-Type: x/y\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello ")
		rw.Flush()
		in, _ := io.ReadAll(rw)
		fmt.Fprintf(conn, "you said %q", in)
	})
	s, err := c.Upgrade(context.Background(), Request{Method: "POST", Path: "/x"}, "tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if err != nil || string(got) != `hello you said "hi"` || s.Header.Get("Content-Type") != "x/y" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCancel(t *testing.T) {
	arrived, over := make(chan struct{}), make(chan struct{})
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(over)
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-arrived; cancel() }()
	if err := c.Call(ctx, "GET", "/x", nil, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	select {
	case <-over:
	case <-time.After(time.Minute):
		t.Error("the engine was not told")
	}
}

// TestLongSocketPath: sockaddr_un has room for 108 bytes, directories have more.
func TestLongSocketPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := serveAt(t, filepath.Join(dir, "berth.sock"), func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `"here"`) })
	var got string
	if err := c.Call(context.Background(), "GET", "/x", nil, nil, &got); err != nil || got != "here" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNobodyListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c, err := New("unix://"+path, "test")
	if err != nil {
		t.Fatal(err)
	}
	var none *ConnectError
	if err := c.Call(context.Background(), "GET", "/x", nil, nil, nil); !errors.As(err, &none) || !none.NotListening() || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	// An engine that can be started is started, once, and the request goes on.
	starts := 0
	c.Start = func(context.Context) error {
		starts++
		serveAt(t, path, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "{}") })
		return nil
	}
	for range 2 {
		if err := c.Call(context.Background(), "GET", "/x", nil, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if starts != 1 {
		t.Errorf("%d starts", starts)
	}
}

func TestHosts(t *testing.T) {
	for _, host := range []string{"unix:///a/b", "tcp://127.0.0.1:2375", "tcp://[::1]:2375/"} {
		if _, err := New(host, ""); err != nil {
			t.Error(err)
		}
	}
	for _, host := range []string{"", "unix://", "tcp://x", "ssh://me@host", "http://x:1", "/a/b", "npipe://x"} {
		if _, err := New(host, ""); err == nil || (host != "" && !strings.Contains(err.Error(), strings.SplitN(host, ":", 2)[0])) {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func TestMalformedAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":           "",
		"no HTTP":           "SSH-2.0-x\r\n",
		"status":            "HTTP/1.1 abc\r\n\r\n",
		"cut head":          "HTTP/1.1 200 OK\r\nContent-Le",
		"short body":        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
		"negative length":   "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
		"cut chunk":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
		"no last chunk":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		"bad chunk size":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n",
		"negative chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n",
		"chunk too long":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
		"unknown encoding":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
		"line without end":  "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 64<<10),
		"trailer sans end":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("a: b\r\n", 1000),
		"first line no end": strings.Repeat("x", 64<<10),
	} {
		resp, err := readResponse(bufio.NewReaderSize(strings.NewReader(answer), 32<<10), "GET", false)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
		}
		if err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	resp, err := readResponse(bufio.NewReader(strings.NewReader("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nuntil the end")), "GET", false)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "until the end" {
		t.Errorf("%q, %v", b, err)
	}
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, in []byte) {
		resp, err := readResponse(bufio.NewReader(bytes.NewReader(in)), "GET", false)
		if err != nil {
			return
		}
		_, _ = io.ReadAll(resp.Body) // it ends
	})
}

func block(kind byte, payload string) string {
	return string([]byte{kind, 0, 0, 0, 0, 0, 0, byte(len(payload))}) + payload
}

func TestDemultiplex(t *testing.T) {
	var out, errs bytes.Buffer
	if err := Demultiplex(&out, &errs, strings.NewReader(block(1, "a")+block(2, "b")+block(1, "")+block(0, "c"))); err != nil || out.String() != "ac" || errs.String() != "b" {
		t.Errorf("%q, %q, %v", out.String(), errs.String(), err)
	}
	if err := Demultiplex(nil, nil, strings.NewReader(block(1, "a"))); err != nil {
		t.Error(err)
	}
	for in, want := range map[string]string{
		block(3, "it broke"): "it broke", block(9, "x"): "unknown kind 9", block(1, "abc")[:9]: "unexpected EOF", "\x01\x00": "unexpected EOF",
	} {
		if err := Demultiplex(io.Discard, io.Discard, strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
