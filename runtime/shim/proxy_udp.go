package shim

import (
	"errors"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How long a client that is silent is remembered (as docker-proxy does), how many are at once, and the longest packet.
const (
	udpIdle    = 90 * time.Second
	udpClients = 4096
	udpSize    = 65535
)

// udpTable knows the clients of a UDP port, so that answers find their way back.
type udpTable struct {
	proxy *proxy
	mu    sync.Mutex
	by    map[netip.AddrPort]*os.File // the socket to the container, by client; guarded by mu
}

// serveUDP carries packets into the container until the socket is closed.
func (p *proxy) serveUDP() {
	t := udpTable{proxy: p, by: map[netip.AddrPort]*os.File{}}
	defer t.close()
	_ = p.raw.Control(func(fd uintptr) { // one of the two fits; answers come from the address that was asked
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
	buf := make([]byte, udpSize)
	oob := make([]byte, 128)
	for {
		var n, oobn int
		var client unix.Sockaddr
		var err error
		e := p.raw.Read(func(fd uintptr) bool {
			n, oobn, _, client, err = unix.Recvmsg(int(fd), buf, oob, 0)
			return err != unix.EAGAIN && err != unix.EINTR
		})
		if e != nil {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		if server := t.server(client, origin(oob[:oobn])); server != nil {
			_, _ = server.Write(buf[:n]) // UDP: what is lost is lost
		}
	}
}

// origin turns what came with a packet into what makes its answer come from the address that it was sent to.
func origin(oob []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil
	}
	m := messages[0]
	answer := append([]byte(nil), oob...)
	if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO {
		clear(answer[unix.CmsgLen(0) : unix.CmsgLen(0)+4]) // whatever interface leads back
	}
	return answer
}

// server returns the socket to the container for this client, nil where there cannot be one.
func (t *udpTable) server(client unix.Sockaddr, origin []byte) *os.File {
	key, ok := clientKey(client)
	if !ok {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.by[key]; f != nil {
		_ = f.SetReadDeadline(time.Now().Add(udpIdle))
		return f
	}
	if len(t.by) >= udpClients {
		return nil
	}
	f, err := dial(unix.SOCK_DGRAM, t.proxy.to)
	if err != nil {
		return nil
	}
	_ = f.SetReadDeadline(time.Now().Add(udpIdle))
	t.by[key] = f
	t.proxy.work.Go(func() { t.answer(key, f, client, origin) })
	return f
}

// answer carries packets back to the client until it has been silent for long.
func (t *udpTable) answer(key netip.AddrPort, f *os.File, client unix.Sockaddr, origin []byte) {
	defer func() {
		t.mu.Lock()
		delete(t.by, key)
		t.mu.Unlock()
		_ = f.Close()
	}()
	buf := make([]byte, udpSize)
	for {
		n, err := f.Read(buf)
		if os.IsTimeout(err) || err != nil && !isRefused(err) {
			return
		}
		if err != nil {
			continue // the container does not listen (yet)
		}
		_ = f.SetReadDeadline(time.Now().Add(udpIdle))
		var sent error
		e := t.proxy.raw.Write(func(fd uintptr) bool {
			sent = unix.Sendmsg(int(fd), buf[:n], origin, client, unix.MSG_NOSIGNAL)
			return sent != unix.EAGAIN && sent != unix.EINTR
		})
		if e != nil {
			return
		}
	}
}

func (t *udpTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.by {
		_ = f.SetReadDeadline(longAgo)
	}
}

func isRefused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

// clientKey makes a map key of an address.
func clientKey(client unix.Sockaddr) (netip.AddrPort, bool) {
	switch a := client.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(a.Addr)
		if a.ZoneId != 0 {
			addr = addr.WithZone(strconv.Itoa(int(a.ZoneId)))
		}
		return netip.AddrPortFrom(addr, uint16(a.Port)), true
	}
	return netip.AddrPort{}, false
}
