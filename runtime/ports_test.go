package runtime_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-engine/berth/runtime"
)

// published returns a listening socket as a descriptor, and its address.
func published(t *testing.T, network string) (*os.File, string) {
	t.Helper()
	type filer interface{ File() (*os.File, error) }
	var l io.Closer
	var addr net.Addr
	if network == "tcp" {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, addr = tcp, tcp.Addr()
	} else {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, addr = udp.(*net.UDPConn), udp.LocalAddr()
	}
	f, err := l.(filer).File()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, addr.String()
}

// echo answers everything with itself, and ends a connection when its other side has ended.
func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { _, _ = io.Copy(c, c); c.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestPublishedTCP(t *testing.T) {
	b := newBench(t)
	cfg := b.config("/bin/sleep", "1000")
	socket, addr := published(t, "tcp")
	nobody, nobodyAddr := published(t, "tcp")
	cfg.Listeners = []runtime.Listener{{Socket: socket, Proto: "tcp", To: echo(t)}, {Socket: nobody, Proto: "tcp", To: netip.MustParseAddrPort("127.0.0.1:1")}}
	c := b.start(cfg)
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			in := make([]byte, 3<<20)
			_, _ = rand.Read(in)
			go func() {
				_, _ = conn.Write(in)
				_ = conn.(*net.TCPConn).CloseWrite() // the half-closed connection still brings the answer
			}()
			if out, err := io.ReadAll(conn); err != nil || !bytes.Equal(in, out) {
				t.Errorf("%d bytes of %d came back, %v", len(out), len(in), err)
			}
		})
	}
	all.Wait()
	conn, err := net.Dial("tcp", nobodyAddr)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, conn); n != 0 {
		t.Errorf("of a container that does not listen: %d bytes, %v", n, err)
	}
	conn.Close()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Signal(t.Context(), 9, false); err != nil {
		t.Fatal(err)
	}
	c.wait()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the port is not free after the exit was reported: %v", err)
	}
	l.Close()
}

func TestPublishedUDP(t *testing.T) {
	b := newBench(t)
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo([]byte(strings.ToUpper(string(buf[:n]))), from)
		}
	})
	t.Cleanup(func() { server.Close(); all.Wait() })
	cfg := b.config("/bin/sleep", "1000")
	socket, addr := published(t, "udp")
	cfg.Listeners = []runtime.Listener{{Socket: socket, Proto: "udp", To: netip.MustParseAddrPort(server.LocalAddr().String())}}
	c := b.start(cfg)
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		conn, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		b.until("a packet and its answer came through", func() bool { // packets may be lost
			if _, err := fmt.Fprintf(conn, "packet %d", i); err != nil {
				return false
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			n, err := conn.Read(buf)
			return err == nil && string(buf[:n]) == fmt.Sprintf("PACKET %d", i)
		})
		conn.Close()
	}
	if err := c.Signal(t.Context(), 9, false); err != nil {
		t.Fatal(err)
	}
	c.wait()
	l, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatalf("the port is not free after the exit was reported: %v", err)
	}
	l.Close()
}
