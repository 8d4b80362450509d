package network

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestConnect(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	for _, spec := range []Spec{{Name: "one"}, {Name: "two", EnableIPv6: true}, {Name: "inside", Internal: true}} {
		_, err := c.Create(t.Context(), spec)
		must(t, err)
	}
	web := m.publishing(c, EndpointRequest{Network: "one"})
	peer := m.attach(c, Request{ContainerID: "peer", Endpoints: []EndpointRequest{{Network: "two"}}})
	first := web.Endpoints[0]
	m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())

	second, err := c.Connect(t.Context(), "web", web.NS, EndpointRequest{Network: "two", Aliases: []string{"www"}})
	must(t, err)
	if second.Interface != "eth1" || !second.IPv6.IsValid() || !slices.Contains(second.Names, "www") {
		t.Errorf("%+v", second)
	}
	m.reaches(peer.NS, TCP, second.IPv4.Addr().String()+":80", "web to "+peer.Endpoints[0].IPv4.Addr().String())
	m.reaches(peer.NS, TCP, "["+second.IPv6.Addr().String()+"]:80", "web to "+peer.Endpoints[0].IPv6.Addr().String())
	inside, err := c.Connect(t.Context(), "web", web.NS, EndpointRequest{Network: "inside"})
	must(t, err)
	if routes := runIn(t, web.NS, "ip", "route"); strings.Count(routes, "default") != 1 || !containsLine(routes, "default via "+first.Gateway4.String()) {
		t.Error(routes)
	}
	a, err := c.Lookup("web")
	must(t, err)
	if fmt.Sprint(a.Endpoints) != fmt.Sprint([]Endpoint{first, second, inside}) {
		t.Errorf("%+v", a.Endpoints)
	}

	// The way out moves to the second network, and with it what is published.
	must(t, c.Disconnect(t.Context(), "web", web.NS, "one"))
	if routes := runIn(t, web.NS, "ip", "route"); !containsLine(routes, "default via "+second.Gateway4.String()) || strings.Contains(routes, first.Gateway4.String()) {
		t.Error(routes)
	}
	m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())
	m.reaches(m.host, UDP, "127.0.0.1:8080", "web to "+second.Gateway4.String())
	m.blocked(m.host, TCP, first.IPv4.Addr().String()+":80")

	back, err := c.Connect(t.Context(), "web", web.NS, EndpointRequest{Network: "one"})
	must(t, err)
	m.reaches(m.host, TCP, back.IPv4.Addr().String()+":80", "web to "+back.Gateway4.String())
	for _, n := range []string{"one", "two", "inside"} {
		must(t, c.Disconnect(t.Context(), "web", web.NS, n))
	}
	m.blocked(m.outside, TCP, hostAddr.String()+":8080")
	again, err := c.Connect(t.Context(), "web", web.NS, EndpointRequest{Network: "two"})
	must(t, err)
	m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())
	m.reaches(m.host, TCP, "["+again.IPv6.Addr().String()+"]:80", "web to "+again.Gateway6.String())
	if !poll(func() bool { return strings.Count(runIn(t, web.NS, "ip", "-o", "link"), "\n") == 2 }) {
		t.Errorf("interfaces are left: %s", runIn(t, web.NS, "ip", "-o", "link"))
	}
	must(t, c.Remove(t.Context(), "one"))
}

func TestConnectErrors(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	_, err := c.Create(t.Context(), Spec{Name: "one"})
	must(t, err)
	web := m.attach(c, Request{ContainerID: "web"})
	none := m.attach(c, Request{ContainerID: "none", Endpoints: []EndpointRequest{{Network: "none"}}})
	for name, test := range map[string]struct {
		id, network string
		kind        func(error) bool
	}{
		"no container":          {"nobody", "one", errdefs.IsNotFound},
		"no network":            {"web", "nowhere", errdefs.IsNotFound},
		"in it":                 {"web", "bridge", errdefs.IsAlreadyExists},
		"the host's":            {"web", "host", errdefs.IsConflict},
		"a container with none": {"none", "one", errdefs.IsConflict},
	} {
		s := web
		if test.id == "none" {
			s = none
		}
		if ep, err := c.Connect(t.Context(), test.id, s.NS, EndpointRequest{Network: test.network}); err == nil || !test.kind(err) {
			t.Errorf("%s: %+v %v", name, ep, err)
		}
	}
	if err := c.Disconnect(t.Context(), "web", web.NS, "one"); !errdefs.IsNotFound(err) {
		t.Errorf("disconnected from where it is not: %v", err)
	}
	if err := c.Disconnect(t.Context(), "none", none.NS, "none"); !errdefs.IsConflict(err) {
		t.Errorf("disconnected from nothing: %v", err)
	}
	// An address that is taken: nothing of the attempt is left.
	n, err := c.Get("one")
	must(t, err)
	if _, err := c.Connect(t.Context(), "web", web.NS, EndpointRequest{Network: "one", IPv4: n.Subnets[0].Gateway}); !errdefs.IsConflict(err) {
		t.Error(err)
	}
	if a, err := c.Lookup("web"); err != nil || len(a.Endpoints) != 1 {
		t.Errorf("%+v %v", a, err)
	}
	must(t, c.Remove(t.Context(), "one"))
}

// TestConnectHostile: the container has made interfaces of its own, also under the names that the
// engine would use, and deleted one that the engine made.
func TestConnectHostile(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	for _, name := range []string{"one", "two"} {
		_, err := c.Create(t.Context(), Spec{Name: name})
		must(t, err)
	}
	web := m.attach(c, Request{ContainerID: "web"})
	runIn(t, web.NS, "ip", "link", "add", "eth1", "type", "bridge")
	ep, err := c.Connect(t.Context(), "web", web.NS, EndpointRequest{Network: "one"})
	must(t, err)
	if ep.Interface != "eth2" {
		t.Errorf("%+v", ep)
	}
	runIn(t, web.NS, "ip", "link", "del", "eth2")
	must(t, c.Disconnect(t.Context(), "web", web.NS, "one"))
	_, err = c.Connect(t.Context(), "web", web.NS, EndpointRequest{Network: "two"})
	must(t, err)
	runIn(t, web.NS, "ip", "link", "set", "eth2", "down")
	runIn(t, web.NS, "ip", "link", "set", "eth2", "name", "mine")
	must(t, c.Disconnect(t.Context(), "web", web.NS, "two"))
	if !poll(func() bool { return !strings.Contains(runIn(t, web.NS, "ip", "-o", "link"), "mine") }) {
		t.Error("a renamed interface stays")
	}
	must(t, c.Remove(t.Context(), "one"))
	must(t, c.Remove(t.Context(), "two"))
}
