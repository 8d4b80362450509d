package shim

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/protocol"
)

// proxy carries what arrives at a published port's socket into the container. Most of a port's traffic never comes
// here, because the firewall translates it; what does is what the host sends to itself in ways that cannot be
// translated (::1), and whatever arrives while another program has emptied the firewall.
type proxy struct {
	socket *os.File
	raw    syscall.RawConn
	to     netip.AddrPort
	room   chan struct{}  // has one for each TCP connection
	work   sync.WaitGroup // all of its goroutines

	mu   sync.Mutex
	held map[*os.File]bool // sockets of the TCP connections; guarded by mu
	over bool              // there are to be none any more; guarded by mu
}

// tcpClients is how many TCP connections a port carries at once. The next one waits in the kernel.
const tcpClients = 1024

// startProxies takes over the sockets. One that cannot be used is closed: its port is then served by the firewall only.
func startProxies(layout []protocol.Listener, sockets []*os.File) (all []*proxy) {
	for i, l := range layout {
		p, err := newProxy(sockets[i], l.To)
		if err != nil {
			continue
		}
		all = append(all, p)
		if l.Proto == "udp" {
			p.work.Go(p.serveUDP)
		} else {
			p.work.Go(p.serveTCP)
		}
	}
	return all
}

func newProxy(socket *os.File, to netip.AddrPort) (*proxy, error) {
	// The descriptor came blocking or not; a new file of it is polled.
	fd, err := duplicate(socket)
	err = errors.Join(err, socket.Close())
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	p := &proxy{socket: os.NewFile(uintptr(fd), "published port"), to: to, room: make(chan struct{}, tcpClients), held: map[*os.File]bool{}}
	if p.raw, err = p.socket.SyscallConn(); err != nil {
		return nil, errors.Join(err, p.socket.Close())
	}
	return p, nil
}

func duplicate(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	e := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 3) })
	return fd, errors.Join(e, err)
}

// close gives the port back: when it returns, another program can have it. Connections that are open stay.
func (p *proxy) close() { _ = p.socket.Close() }

// hangUp ends the connections of a proxy that was closed, and returns when nothing is left of it.
func (p *proxy) hangUp() {
	p.mu.Lock()
	p.over = true
	for f := range p.held {
		_ = f.Close() // who reads, writes or waits for it notices
	}
	p.mu.Unlock()
	p.work.Wait()
}

// hold notes a connection's socket. Where there are to be none any more, it closes it.
func (p *proxy) hold(f *os.File) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		_ = f.Close()
		return false
	}
	p.held[f] = true
	return true
}

func (p *proxy) drop(f *os.File) {
	p.mu.Lock()
	delete(p.held, f)
	p.mu.Unlock()
	_ = f.Close()
}

func (p *proxy) serveTCP() {
	for {
		p.room <- struct{}{} // hangUp makes room
		client, err := acceptOne(p.raw)
		if err != nil {
			return
		}
		p.work.Go(func() {
			p.carry(client)
			<-p.room
		})
	}
}

// carry connects the client with the container and copies both ways until both are done.
func (p *proxy) carry(client *os.File) {
	if !p.hold(client) {
		return
	}
	defer p.drop(client)
	server, err := dial(unix.SOCK_STREAM, p.to)
	if err != nil || !p.hold(server) {
		return // the client sees the connection end, as it would without a proxy
	}
	defer p.drop(server)
	if err := connected(server); err != nil {
		return
	}
	a, err1 := client.SyscallConn()
	b, err2 := server.SyscallConn()
	if err1 != nil || err2 != nil {
		return
	}
	for _, raw := range []syscall.RawConn{a, b} {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) })
	}
	var both sync.WaitGroup
	both.Go(func() { relay(b, a) })
	both.Go(func() { relay(a, b) })
	both.Wait()
}

// dial connects a socket that does not block. One of TCP may still be connecting.
func dial(kind int, to netip.AddrPort) (*os.File, error) {
	family, address := sockaddr(to)
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = unix.Connect(fd, address)
	if err != nil && err != unix.EINPROGRESS && err != unix.EINTR {
		return nil, errors.Join(os.NewSyscallError("connect", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), to.String()), nil
}

// connected waits until the socket is connected.
func connected(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	e := raw.Write(func(fd uintptr) bool {
		if _, err := unix.Getpeername(int(fd)); err == nil {
			return true
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failed = err
		case code != 0:
			failed = unix.Errno(code)
		}
		return failed != nil
	})
	return errors.Join(e, failed)
}

func sockaddr(to netip.AddrPort) (family int, address unix.Sockaddr) {
	if a := to.Addr().Unmap(); a.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: a.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}

// relay moves bytes from one socket to another, without copying them through us, until the end of either, and passes
// the end on.
func relay(to, from syscall.RawConn) {
	defer func() {
		_ = to.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) })
		_ = from.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RD) })
	}()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	const most = 1 << 20
	for {
		n, err := splice(from.Read, func(fd uintptr) (int, int) { return int(fd), p[1] }, most)
		if n <= 0 || err != nil {
			return
		}
		for n > 0 {
			m, err := splice(to.Write, func(fd uintptr) (int, int) { return p[0], int(fd) }, n)
			if m <= 0 || err != nil {
				return
			}
			n -= m
		}
	}
}

// splice moves at most n bytes between the two descriptors that ends returns, when the socket is ready.
func splice(ready func(func(uintptr) bool) error, ends func(fd uintptr) (from, to int), n int) (moved int, err error) {
	e := ready(func(fd uintptr) bool {
		from, to := ends(fd)
		for {
			var m int64
			m, err = unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			moved = int(m)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	return moved, errors.Join(e, err)
}
