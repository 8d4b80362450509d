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
}

// startProxies takes over the sockets. One that cannot be used is closed: its port is then served by the firewall only.
func startProxies(layout []protocol.Listener, sockets []*os.File) (all []*proxy) {
	for i, l := range layout {
		p, err := newProxy(sockets[i], l.To)
		if err != nil {
			continue
		}
		all = append(all, p)
		if l.Proto == "udp" {
			go p.serveUDP()
		} else {
			go p.serveTCP()
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
	p := &proxy{socket: os.NewFile(uintptr(fd), "published port"), to: to}
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

// close gives the port back: when it returns, another program can have it.
func (p *proxy) close() { _ = p.socket.Close() }

func (p *proxy) serveTCP() {
	for {
		client, err := acceptOne(p.raw)
		if err != nil {
			return
		}
		go p.carry(client)
	}
}

// carry connects the client with the container and copies both ways until both are done.
func (p *proxy) carry(client *os.File) {
	defer client.Close()
	server, err := dial(unix.SOCK_STREAM, p.to)
	if err != nil {
		return // the client sees the connection end, as it would without a proxy
	}
	defer server.Close()
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

// dial connects a socket that does not block, and waits until it is connected.
func dial(kind int, to netip.AddrPort) (*os.File, error) {
	family, address := sockaddr(to)
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = unix.Connect(fd, address)
	f := os.NewFile(uintptr(fd), to.String())
	if errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		err = connected(f)
	}
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("connect", err), f.Close())
	}
	return f, nil
}

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
