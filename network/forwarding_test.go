package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-engine/berth/internal/testroot"
)

// setSysctl sets a value for the rest of the test.
func (m *machine) setSysctl(path, value string) {
	m.t.Helper()
	was, err := readSysctl(path)
	must(m.t, err)
	must(m.t, writeSysctl(path, value))
	m.t.Cleanup(func() { must(m.t, writeSysctl(path, was)) })
}

func (m *machine) wantSysctl(path, want string) {
	m.t.Helper()
	if got, err := readSysctl(path); err != nil || got != want {
		m.t.Errorf("%s is %q, want %q %v", path, got, want, err)
	}
}

// another returns the same machine with another engine's roots.
func (m *machine) another() *machine {
	sub := *m
	dir := testroot.Dir(m.t)
	sub.opts.Root, sub.opts.ExecRoot = filepath.Join(dir, "data"), filepath.Join(dir, "run")
	return &sub
}

// TestForwarding: switched on with the first network that needs it, and off with the last, together
// with everything else that the kernel changes at the same time.
func TestForwarding(t *testing.T) {
	m := newMachine(t)
	m.setSysctl("net/ipv4/conf/wire0/forwarding", "1") // a host that routes on one interface only
	m.setSysctl("net/ipv4/conf/all/accept_redirects", "1")
	m.before = m.snapshot()
	c := m.open()
	m.wantSysctl("net/ipv4/ip_forward", "0")
	_, err := c.Create(t.Context(), Spec{Name: "inside", Internal: true})
	must(t, err)
	m.wantSysctl("net/ipv4/ip_forward", "0")
	_, err = c.Create(t.Context(), Spec{Name: "six", EnableIPv6: true})
	must(t, err)
	m.wantSysctl("net/ipv4/ip_forward", "1")
	m.wantSysctl("net/ipv6/conf/all/forwarding", "1")
	m.wantSysctl("net/ipv6/conf/wire0/accept_ra", "2") // the host's own route by advertisement stays
	must(t, c.Remove(t.Context(), "six"))
	must(t, c.Remove(t.Context(), "inside"))
	m.unchanged()
	m.attach(c, Request{ContainerID: "c"})
	m.wantSysctl("net/ipv4/ip_forward", "1")
	m.wantSysctl("net/ipv6/conf/all/forwarding", "0")
	c.crash()
	c = m.open()
	m.wantSysctl("net/ipv4/ip_forward", "1") // the bridge is there, for the next container
	must(t, c.Close(t.Context()))
	m.unchanged()
}

// TestForwardingOn: what the administrator has on stays on.
func TestForwardingOn(t *testing.T) {
	m := newMachine(t)
	m.setSysctl("net/ipv4/ip_forward", "1")
	m.before = m.snapshot()
	c := m.open()
	m.attach(c, Request{ContainerID: "c"})
	must(t, c.Detach(t.Context(), "c"))
	must(t, c.Close(t.Context()))
	m.wantSysctl("net/ipv4/ip_forward", "1")
	m.unchanged()
}

// TestForwardingOfStrangers: the host does not become a router for others because containers need one.
func TestForwardingOfStrangers(t *testing.T) {
	m := newMachine(t)
	farAddr := netip.MustParseAddr("198.51.100.2")
	far := m.secondWire(farAddr)
	m.serve(far, TCP, ":90", "far")
	m.blocked(m.outside, TCP, farAddr.String()+":90")
	c := m.open()
	s := m.attach(c, Request{ContainerID: "c"})
	m.wantSysctl("net/ipv4/ip_forward", "1")
	m.reaches(s.NS, TCP, farAddr.String()+":90", "far to 198.51.100.1")
	m.blocked(m.outside, TCP, farAddr.String()+":90")
	run(t, "nft", "add", "table", "inet", "probe") // a stranger's table changes nothing
	t.Cleanup(func() { run(t, "nft", "delete", "table", "inet", "probe") })
	m.blocked(m.outside, TCP, farAddr.String()+":90")
}

// TestForwardingByAdministrator: where it was on before, strangers are none of the engine's business.
func TestForwardingByAdministrator(t *testing.T) {
	m := newMachine(t)
	m.setSysctl("net/ipv4/ip_forward", "1")
	farAddr := netip.MustParseAddr("198.51.100.2")
	m.serve(m.secondWire(farAddr), TCP, ":90", "far")
	m.attach(m.open(), Request{ContainerID: "c"})
	m.reaches(m.outside, TCP, farAddr.String()+":90", "far to "+outsideAddr.String())
}

// secondWire makes another place outside, that knows a way back to everywhere through the host.
func (m *machine) secondWire(at netip.Addr) *os.File {
	m.t.Helper()
	ns, err := newNamespace(m.host)
	must(m.t, err)
	r, err := openRtnl()
	must(m.t, err)
	must(m.t, r.addVeth(veth{host: "wire1", inside: "wire1", mac: macFor(at), mtu: 1500, ns: int(ns.file.Fd())}))
	hostIndex, err := r.index("wire1")
	must(m.t, err)
	must(m.t, r.addAddress(hostIndex, netip.PrefixFrom(at.Prev(), 24)))
	index, err := ns.index("wire1")
	must(m.t, err)
	must(m.t, ns.up(index))
	must(m.t, ns.addAddress(index, netip.PrefixFrom(at, 24)))
	must(m.t, ns.addDefaultRoute(index, at.Prev()))
	ns.rtnl.close()
	m.t.Cleanup(func() {
		must(m.t, r.deleteLink(hostIndex))
		r.close()
		ns.file.Close()
	})
	return ns.file
}

// TestTwoEngines live on one host: neither takes what the other has, nor switches off what it needs.
func TestTwoEngines(t *testing.T) {
	m := newMachine(t)
	n := m.another()
	c, d := m.open(), n.open()
	a := m.attach(c, Request{ContainerID: "same", Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}}})
	b := n.attach(d, Request{ContainerID: "same", Ports: []PortBinding{{HostPort: 8081, ContainerPort: 80}}})
	m.serve(a.NS, TCP, ":80", "a")
	m.serve(b.NS, TCP, ":80", "b")
	if a.Endpoints[0].IPv4.Masked().Overlaps(b.Endpoints[0].IPv4.Masked()) {
		t.Errorf("both have %s and %s", a.Endpoints[0].IPv4, b.Endpoints[0].IPv4)
	}
	both := func() {
		t.Helper()
		m.reaches(m.outside, TCP, hostAddr.String()+":8081", "b to "+outsideAddr.String())
		m.reaches(m.host, TCP, "127.0.0.1:8081", "b to "+b.Endpoints[0].Gateway4.String())
	}
	both()
	m.reaches(m.outside, TCP, hostAddr.String()+":8080", "a to "+outsideAddr.String())
	m.reaches(b.NS, TCP, hostAddr.String()+":8080", "a to "+a.Endpoints[0].Gateway4.String())
	m.blocked(b.NS, TCP, a.Endpoints[0].IPv4.Addr().String()+":80")
	if _, err := d.Attach(t.Context(), Request{ContainerID: "x", Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}}}); err == nil {
		t.Error("a port of the other engine's was given")
	}
	// The first, which switched forwarding on, leaves.
	must(t, a.Close())
	must(t, c.Detach(t.Context(), "same"))
	must(t, c.Close(t.Context()))
	both()
	m.wantSysctl("net/ipv4/ip_forward", "1")
	must(t, b.Close())
	must(t, d.Detach(t.Context(), "same"))
	must(t, d.Close(t.Context()))
	m.unchanged()
}

// TestForwardingInUse: somebody came to rely on it; it stays.
func TestForwardingInUse(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	m.attach(c, Request{ContainerID: "c"})
	run(t, "ip", "link", "add", "virbr9", "type", "bridge")
	t.Cleanup(func() {
		run(t, "ip", "link", "del", "virbr9")
		for path, value := range map[string]string{"net/ipv4/ip_forward": "0", "net/ipv4/conf/all/accept_redirects": "1"} {
			must(t, writeSysctl(path, value))
		}
	})
	must(t, c.Detach(t.Context(), "c"))
	must(t, c.Close(t.Context()))
	m.wantSysctl("net/ipv4/ip_forward", "1")
}
