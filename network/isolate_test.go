package network

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// TestIsolation: networks don't reach each other, nor is anything in them reached from outside; they
// reach the outside with the host's address.
func TestIsolation(t *testing.T) {
	for _, netfilter := range []string{"0", "1"} {
		t.Run("br_netfilter "+netfilter, func(t *testing.T) { testIsolation(t, netfilter) })
	}
}

func testIsolation(t *testing.T, netfilter string) {
	m := newMachine(t)
	m.bridgeNetfilter(netfilter)
	c := m.open()
	for _, spec := range []Spec{
		{Name: "open"},
		{Name: "inside", Internal: true},
		{Name: "silent", Options: map[string]string{OptionICC: "false"}},
		{Name: "routed", Options: map[string]string{OptionMasquerade: "false"}},
	} {
		_, err := c.Create(t.Context(), spec)
		must(t, err)
	}
	nets := map[string][2]*Sandbox{}
	for _, name := range []string{"bridge", "open", "inside", "silent", "routed"} {
		var pair [2]*Sandbox
		for i := range pair {
			id := name + []string{"-a", "-b"}[i]
			pair[i] = m.attach(c, Request{ContainerID: id, Endpoints: []EndpointRequest{{Network: name}}})
			m.serve(pair[i].NS, TCP, ":80", id)
			m.serve(pair[i].NS, UDP, ":80", id)
		}
		nets[name] = pair
	}
	m.serve(m.outside, TCP, ":90", "world")
	m.serve(m.outside, UDP, outsideAddr.String()+":90", "world")
	m.serve(m.host, TCP, "127.0.0.1:70", "host")
	var probes sync.WaitGroup // most of the time is waiting for what must not come
	blocked := func(ns *os.File, proto, addr string) { probes.Go(func() { m.blocked(ns, proto, addr) }) }
	for name, pair := range nets {
		from, own := pair[0].NS, pair[0].Endpoints[0].IPv4.Addr().String()
		for _, proto := range []string{TCP, UDP} {
			peer := pair[1].Endpoints[0].IPv4.Addr().String() + ":80"
			if name == "silent" {
				blocked(from, proto, peer)
			} else {
				m.reaches(from, proto, peer, name+"-b to "+own)
			}
			m.reaches(m.host, proto, own+":80", name+"-a to "+c.gateway(t, name).String())
			blocked(m.outside, proto, own+":80")
			world := outsideAddr.String() + ":90"
			switch name {
			case "inside":
				blocked(from, proto, world)
			case "routed": // the world knows the way back
				m.reaches(from, proto, world, "world to "+own)
			default:
				m.reaches(from, proto, world, "world to "+hostAddr.String())
			}
		}
		for other, there := range nets {
			if other != name {
				blocked(from, TCP, there[0].Endpoints[0].IPv4.Addr().String()+":80")
			}
		}
		blocked(from, TCP, "127.0.0.1:70")
	}
	probes.Wait()
	// An internal network's container that makes itself a route out, or to a neighbour's network.
	inside := nets["inside"][0]
	runIn(t, inside.NS, "ip", "route", "add", "default", "via", c.gateway(t, "inside").String())
	m.blocked(inside.NS, TCP, outsideAddr.String()+":90")
	m.blocked(inside.NS, UDP, outsideAddr.String()+":90")
	m.blocked(inside.NS, TCP, nets["open"][0].Endpoints[0].IPv4.Addr().String()+":80")
	// One of a network without talk that sends to its neighbour through the host.
	silent := nets["silent"]
	runIn(t, silent[0].NS, "ip", "route", "add", silent[1].Endpoints[0].IPv4.Addr().String(), "via", c.gateway(t, "silent").String())
	m.blocked(silent[0].NS, TCP, silent[1].Endpoints[0].IPv4.Addr().String()+":80")
}

func (c *Controller) gateway(t *testing.T, network string) netip.Addr {
	t.Helper()
	n, err := c.Get(network)
	must(t, err)
	return n.Subnets[0].Gateway
}

// TestInternalPublishesNothing: as with Docker, ports of a container that has no way out are left out.
func TestInternalPublishesNothing(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	_, err := c.Create(t.Context(), Spec{Name: "inside", Internal: true})
	must(t, err)
	s := m.publishing(c, EndpointRequest{Network: "inside"})
	if len(s.Ports)+len(s.Listeners) != 0 {
		t.Errorf("ports %v, listeners %v", s.Ports, s.Listeners)
	}
	m.blocked(m.outside, TCP, hostAddr.String()+":8080")
}

// TestInternalReachesNoPublished: what is published is for others, not for those who must not get out.
func TestInternalReachesNoPublished(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	_, err := c.Create(t.Context(), Spec{Name: "inside", Internal: true})
	must(t, err)
	m.publishing(c)
	s := m.attach(c, Request{ContainerID: "inside", Endpoints: []EndpointRequest{{Network: "inside"}}})
	runIn(t, s.NS, "ip", "route", "add", "default", "via", c.gateway(t, "inside").String())
	m.blocked(s.NS, TCP, hostAddr.String()+":8080")
	m.blocked(s.NS, TCP, c.gateway(t, "inside").String()+":8080")
}

// TestLoopbackWithoutRules: with every rule of nftables flushed, and the engine not there to write
// them again, what listens on the host's loopback is still not reached from a container.
func TestLoopbackWithoutRules(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	s := m.attach(c, Request{ContainerID: "c"})
	m.serve(m.host, TCP, "127.0.0.1:70", "host")
	m.reaches(m.host, TCP, "127.0.0.1:70", "host to 127.0.0.1")
	c.watch.close() // as if the engine were stopped
	c.watch.socket = nil
	run(t, "nft", "flush", "ruleset")
	m.routeLoopback(&machineNS{s.NS, "eth0", s.Endpoints[0].Gateway4})
	m.blocked(s.NS, TCP, "127.0.0.1:70")

	run(t, "tc", "qdisc", "del", "dev", s.Endpoints[0].HostVeth, "clsact")
	if got, err := m.ask(s.NS, TCP, "127.0.0.1:70", deadline); err != nil {
		t.Errorf("without the filter it would not be reached either, so the test shows nothing: %q %v", got, err)
	}
}

// TestFlushedRules: rules that somebody flushes are written again.
func TestFlushedRules(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	m.publishing(c)
	for range 3 {
		run(t, "nft", "flush", "ruleset")
		if !poll(func() bool { return containsLine(run(t, "nft", "list", "ruleset"), "8080") }) {
			t.Fatal("the rules did not come back")
		}
		m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())
	}
}

// TestPublishAfterFlush: a port that is published just after a flush comes with all the others.
func TestPublishAfterFlush(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	m.publishing(c)
	c.watch.close()
	c.watch.socket = nil
	run(t, "nft", "flush", "ruleset")
	s := m.attach(c, Request{ContainerID: "late", Ports: []PortBinding{{HostPort: 8090, ContainerPort: 80}}})
	m.serve(s.NS, TCP, ":80", "late")
	m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())
	m.reaches(m.outside, TCP, hostAddr.String()+":8090", "late to "+outsideAddr.String())
	run(t, "nft", "flush", "ruleset")
	must(t, c.Detach(t.Context(), "late"))
	m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())
}

// TestForgedSender: what a container sends with an address that is not its network's goes nowhere.
func TestForgedSender(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	s := m.attach(c, Request{ContainerID: "c"})
	runIn(t, s.NS, "ip", "address", "add", "198.51.100.7/32", "dev", "eth0")
	m.sendsNothing(s, s, netip.MustParseAddr("198.51.100.7"))
}

// TestInternalSendsNothing: not even what needs no answer leaves an internal network.
func TestInternalSendsNothing(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	_, err := c.Create(t.Context(), Spec{Name: "inside", Internal: true})
	must(t, err)
	s := m.attach(c, Request{ContainerID: "inside", Endpoints: []EndpointRequest{{Network: "inside"}}})
	runIn(t, s.NS, "ip", "route", "add", "default", "via", c.gateway(t, "inside").String())
	m.sendsNothing(m.attach(c, Request{ContainerID: "c"}), s, s.Endpoints[0].IPv4.Addr())
}

// sendsNothing fails the test if a packet from s with this sender arrives outside. Those that honest
// sends before and after do.
func (m *machine) sendsNothing(honest, s *Sandbox, from netip.Addr) {
	m.t.Helper()
	gateway := s.Endpoints[0].IPv4.Masked().Addr().Next()
	var world net.PacketConn
	must(m.t, m.in(m.outside, func() (err error) {
		world, err = net.ListenPacket(UDP, outsideAddr.String()+":90")
		return err
	}))
	defer world.Close()
	send := func(s *Sandbox, from netip.Addr, what string) {
		must(m.t, m.in(s.NS, func() error {
			conn, err := net.DialUDP(UDP, net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(outsideAddr, 90)))
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = io.WriteString(conn, what)
			return err
		}))
	}
	own := honest.Endpoints[0].IPv4.Addr()
	send(honest, own, "begin") // neighbours are known from here on
	buf := make([]byte, 10)
	must(m.t, world.SetReadDeadline(time.Now().Add(deadline)))
	for {
		n, sender, err := world.ReadFrom(buf)
		must(m.t, err)
		switch string(buf[:n]) {
		case "begin":
			runIn(m.t, s.NS, "ip", "neighbour", "replace", gateway.String(), "lladdr", macFor(gateway).String(), "dev", "eth0")
			send(s, from, "bad")
			send(honest, own, "end")
		case "bad":
			m.t.Errorf("a packet came outside, as from %s", sender)
		case "end":
			return
		}
	}
}
