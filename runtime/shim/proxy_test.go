package shim

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// counted counts how often a socket is read.
type counted struct {
	syscall.RawConn
	n atomic.Int64
}

func (c *counted) Read(f func(uintptr) bool) error {
	c.n.Add(1)
	return c.RawConn.Read(f)
}

// listen returns a listening socket as the shim gets it, and its address.
func listen(t *testing.T) (*os.File, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	return f, l.Addr().String()
}

// TestNoDescriptors: without descriptors accepting pauses, and goes on when there are some.
func TestNoDescriptors(t *testing.T) {
	socket, addr := listen(t)
	p, err := newProxy(socket, netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	client, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	limit := func(n uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
	}
	raw := &counted{RawConn: p.raw}
	accepted := make(chan *os.File)
	limit(1)
	begun := time.Now()
	go func() {
		f, _ := acceptOne(raw)
		accepted <- f
	}()
	for raw.n.Load() < 4 {
		time.Sleep(time.Millisecond)
	}
	tries, took := raw.n.Load(), time.Since(begun)
	limit(before.Cur)
	f := <-accepted
	if f == nil {
		t.Fatal("nothing was accepted when there were descriptors again")
	}
	f.Close()
	if least := time.Duration(tries-1) * scarcity; took < least {
		t.Errorf("%d tries in %v: each but the first is to come %v after the one before", tries, took, scarcity)
	}
}

// TestManyClients: a port carries as many connections as it is to; the next one is served when one of them ends, and
// hangUp ends them all.
func TestManyClients(t *testing.T) {
	silent, to := listen(t) // connects, and never says anything
	defer silent.Close()
	socket, addr := listen(t)
	p, err := newProxy(socket, netip.MustParseAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	const most = 3
	p.room = make(chan struct{}, most)
	p.work.Go(p.serveTCP)
	open := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.held)
	}
	until := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain until %s; %d sockets are open", what, open())
			}
		}
	}
	var clients []net.Conn
	for range most + 1 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
		if len(clients) <= most {
			until("it is carried", func() bool { return open() == 2*len(clients) })
		}
	}
	// The one too many waits: whatever ends makes room for it.
	server, err := silent.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	first, err := acceptOne(server)
	if err != nil {
		t.Fatal(err)
	}
	if n := open(); n != 2*most {
		t.Errorf("%d sockets are open, want those of %d connections", n, most)
	}
	clients[0].Close()
	first.Close()
	until("the next one is carried", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for f := range p.held {
			if remote(f) == clients[most].LocalAddr().String() {
				return true
			}
		}
		return false
	})
	p.close()
	p.hangUp()
	for _, c := range clients[1:] {
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, c); n != 0 || os.IsTimeout(err) {
			t.Errorf("after the end: %d bytes, %v", n, err)
		}
	}
}

// remote is the other side's address.
func remote(f *os.File) string {
	raw, err := f.SyscallConn()
	if err != nil {
		return ""
	}
	var a netip.AddrPort
	_ = raw.Control(func(fd uintptr) {
		if peer, err := unix.Getpeername(int(fd)); err == nil {
			a, _ = clientKey(peer)
		}
	})
	return a.String()
}
