package network

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// publishing attaches a container "web" that serves port 80 of both protocols, published as 8080.
func (m *machine) publishing(c *Controller, ends ...EndpointRequest) *Sandbox {
	m.t.Helper()
	s := m.attach(c, Request{ContainerID: "web", Name: "web", Endpoints: ends, Ports: []PortBinding{
		{HostPort: 8080, ContainerPort: 80},
		{HostPort: 8080, ContainerPort: 80, Proto: UDP},
	}})
	m.serve(s.NS, TCP, ":80", "web")
	m.serve(s.NS, UDP, ":80", "web")
	return s
}

// TestPublished asks a published port from everywhere. The answer tells which address the container
// saw: clients from outside and from other containers keep theirs, unless the answer would not find
// back.
//
// With br_netfilter, the kernel translates what stays within a bridge on other ways.
func TestPublished(t *testing.T) {
	for _, netfilter := range []string{"0", "1"} {
		t.Run("br_netfilter "+netfilter, func(t *testing.T) { testPublished(t, netfilter) })
	}
}

func testPublished(t *testing.T, netfilter string) {
	m := newMachine(t)
	m.bridgeNetfilter(netfilter)
	c := m.open()
	other, err := c.Create(t.Context(), Spec{Name: "other"})
	must(t, err)
	web := m.publishing(c)
	peer := m.attach(c, Request{ContainerID: "peer"})
	stranger := m.attach(c, Request{ContainerID: "stranger", Endpoints: []EndpointRequest{{Network: "other"}}})
	ep := web.Endpoints[0]
	gateway := ep.Gateway4.String()
	host := hostAddr.String()
	for _, proto := range []string{TCP, UDP} {
		t.Run(proto, func(t *testing.T) {
			m.reaches(m.outside, proto, host+":8080", "web to "+outsideAddr.String())
			m.reaches(m.host, proto, host+":8080", "web to "+host)
			m.reaches(m.host, proto, "127.0.0.1:8080", "web to "+gateway)
			m.reaches(m.host, proto, "127.1.2.3:8080", "web to "+gateway)
			m.reaches(m.host, proto, gateway+":8080", "web to "+gateway)
			m.reaches(peer.NS, proto, ep.IPv4.Addr().String()+":80", "web to "+peer.Endpoints[0].IPv4.Addr().String())
			for _, addr := range []string{host, gateway} {
				m.reaches(peer.NS, proto, addr+":8080", "web to "+gateway)
				m.reaches(web.NS, proto, addr+":8080", "web to "+gateway) // hairpin
				m.reaches(stranger.NS, proto, addr+":8080", "web to "+gateway)
			}
			m.reaches(stranger.NS, proto, other.Subnets[0].Gateway.String()+":8080", "web to "+gateway)
			m.blocked(m.outside, proto, host+":80")
			m.blocked(m.outside, proto, ep.IPv4.Addr().String()+":80")   // routed to the host, but not published
			m.blocked(stranger.NS, proto, ep.IPv4.Addr().String()+":80") // another network
		})
	}
	must(t, c.Detach(t.Context(), "web"))
	if rules := run(t, "nft", "list", "ruleset"); strings.Contains(rules, "8080") {
		t.Errorf("rules of a detached container are left:\n%s", rules)
	}
}

// TestPublishedOnOneAddress: a port that is published on the loopback is reached from the host only,
// also by those outside who send packets with such an address to the host (CVE-2020-8558).
func TestPublishedOnOneAddress(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	s := m.attach(c, Request{ContainerID: "c", Ports: []PortBinding{
		{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8081, ContainerPort: 80},
		{HostIP: hostAddr, HostPort: 8082, ContainerPort: 80},
	}})
	m.serve(s.NS, TCP, ":80", "c")
	gateway := s.Endpoints[0].Gateway4.String()
	m.reaches(m.host, TCP, "127.0.0.1:8081", "c to "+gateway)
	m.reaches(m.host, TCP, hostAddr.String()+":8082", "c to "+hostAddr.String())
	m.reaches(m.outside, TCP, hostAddr.String()+":8082", "c to "+outsideAddr.String())
	m.blocked(m.outside, TCP, hostAddr.String()+":8081")
	m.blocked(m.host, TCP, "127.0.0.1:8082")

	peer := m.attach(c, Request{ContainerID: "peer"})
	for name, ns := range map[string]*machineNS{"outside": {m.outside, "wire0", hostAddr}, "container": {peer.NS, "eth0", peer.Endpoints[0].Gateway4}} {
		t.Run("loopback from "+name, func(t *testing.T) {
			m.routeLoopback(ns)
			m.blocked(ns.file, TCP, "127.0.0.1:8081")
			m.blocked(ns.file, TCP, "127.0.0.2:8081")
		})
	}
}

// bridgeNetfilter says whether frames within bridges go through the rules for IP.
func (m *machine) bridgeNetfilter(on string) {
	m.t.Helper()
	for _, name := range []string{"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"} {
		was, err := readSysctl(name)
		if errors.Is(err, fs.ErrNotExist) && on == "0" {
			continue
		} else if errors.Is(err, fs.ErrNotExist) {
			m.t.Skip("br_netfilter is not in this kernel, or not loaded")
		}
		must(m.t, err)
		must(m.t, writeSysctl(name, on))
		m.t.Cleanup(func() { must(m.t, writeSysctl(name, was)) })
	}
}

// TestPublished6: a network with IPv6 is reached by IPv6 without a proxy, but for ::1, which can't be
// translated; a network without is reached by IPv6 through the listener only.
func TestPublished6(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	n, err := c.Create(t.Context(), Spec{Name: "six", EnableIPv6: true})
	must(t, err)
	web := m.publishing(c, EndpointRequest{Network: "six"})
	peer := m.attach(c, Request{ContainerID: "peer", Endpoints: []EndpointRequest{{Network: "six"}}})
	ep := web.Endpoints[0]
	if len(n.Subnets) != 2 || !ep.IPv4.IsValid() || !ep.IPv6.IsValid() || !n.IPv6 {
		t.Fatalf("%+v %+v", n, ep)
	}
	gateway := ep.Gateway6.String()
	for _, proto := range []string{TCP, UDP} {
		m.reaches(m.outside, proto, "[2001:db8::1]:8080", "web to 2001:db8::2")
		m.reaches(m.host, proto, "[2001:db8::1]:8080", "web to 2001:db8::1")
		m.reaches(m.host, proto, "["+ep.IPv6.Addr().String()+"]:80", "web to "+gateway)
		m.reaches(peer.NS, proto, "["+ep.IPv6.Addr().String()+"]:80", "web to "+peer.Endpoints[0].IPv6.Addr().String())
		m.reaches(peer.NS, proto, "[2001:db8::1]:8080", "web to "+gateway)
		m.reaches(web.NS, proto, "["+gateway+"]:8080", "web to "+gateway)
		m.reaches(m.outside, proto, hostAddr.String()+":8080", "web to "+outsideAddr.String())
		m.blocked(m.outside, proto, "["+ep.IPv6.Addr().String()+"]:80")
	}
	m.serve(m.outside, TCP, "[2001:db8::2]:90", "world")
	m.reaches(web.NS, TCP, "[2001:db8::2]:90", "world to 2001:db8::1")
	for _, l := range web.Listeners {
		if l.Target.Addr().Is4() != l.Port.HostIP.Is4() {
			t.Errorf("%s is to be forwarded to %s", l.Port, l.Target)
		}
	}
	if len(web.Listeners) != 4 || len(web.Ports) != 4 {
		t.Errorf("listeners %v, ports %v: want IPv4 and IPv6 of TCP and UDP", web.Listeners, web.Ports)
	}
}

// TestListeners: what the kernel does not translate arrives at the listener, whose owner forwards it.
func TestListeners(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	web := m.publishing(c)
	for _, l := range web.Listeners {
		if l.Port.Proto != TCP || l.Port.HostIP.Is4() {
			continue
		}
		if want := web.Endpoints[0].IPv4.Addr(); l.Target.Addr() != want || l.Target.Port() != 80 {
			t.Errorf("target %s, want port 80 of %s", l.Target, want)
		}
		m.forward(l)
		m.reaches(m.host, TCP, "[::1]:8080", "web to "+web.Endpoints[0].Gateway4.String())
		m.reaches(m.outside, TCP, "[2001:db8::1]:8080", "web to "+web.Endpoints[0].Gateway4.String())
		return
	}
	t.Error("no TCP listener for IPv6")
}

// forward is the least that the owner of a listener does.
func (m *machine) forward(l Listener) {
	m.t.Helper()
	ln, err := net.FileListener(l.File)
	must(m.t, err)
	m.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			if out, err := net.Dial("tcp", l.Target.String()); err == nil {
				_, _ = io.Copy(in, out)
				out.Close()
			}
			in.Close()
		}
	}()
}

type machineNS struct {
	file *os.File
	link string
	via  netip.Addr
}

// routeLoopback makes ns send what is for 127.0.0.0/8 to the host.
func (m *machine) routeLoopback(ns *machineNS) {
	m.t.Helper()
	for _, cmd := range []string{
		"sysctl -qw net.ipv4.conf." + ns.link + ".route_localnet=1",
		"ip address del 127.0.0.1/8 dev lo",
		"ip route add 127.0.0.0/8 via " + ns.via.String(),
	} {
		runIn(m.t, ns.file, strings.Fields(cmd)...)
	}
}
