package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestPredefined(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	var found []string
	for _, n := range c.List() {
		found = append(found, n.Name+" "+n.Driver)
		if !n.Predefined() || len(n.ID) != 64 {
			t.Errorf("%+v", n)
		}
		if err := c.Remove(t.Context(), n.Name); !errdefs.IsPermissionDenied(err) {
			t.Errorf("remove %s: %v", n.Name, err)
		}
	}
	if want := []string{"bridge bridge", "host host", "none null"}; !slices.Equal(found, want) {
		t.Errorf("%v, want %v", found, want)
	}
}

func TestCreate(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	must(t, c.addTaken(t))
	for name, test := range map[string]struct {
		spec Spec
		kind func(error) bool // nil wants success
		want string
	}{
		"plain":               {spec: Spec{Name: "plain"}},
		"a subnet":            {spec: Spec{Name: "x", Subnets: []Subnet{{Subnet: prefix("10.77.0.0/24")}}}},
		"everything":          {spec: Spec{Name: "a.b_c-d", Driver: "bridge", EnableIPv6: true, Attachable: true, Labels: map[string]string{"l": "v"}, Options: map[string]string{OptionMTU: "1400", OptionBridgeName: "mybridge", "other": "kept"}, Subnets: []Subnet{{Subnet: prefix("fd77::/64")}, {Subnet: prefix("10.78.0.0/16"), IPRange: prefix("10.78.5.0/24"), Gateway: addr("10.78.0.254"), Aux: map[string]netip.Addr{"x": addr("10.78.5.1")}}}}},
		"IPv6 alone":          {spec: Spec{Name: "x", DisableIPv4: true, EnableIPv6: true}},
		"no name":             {spec: Spec{}, kind: errdefs.IsInvalidArgument, want: "name"},
		"bad name":            {spec: Spec{Name: "-x"}, kind: errdefs.IsInvalidArgument, want: "name"},
		"slash":               {spec: Spec{Name: "a/b"}, kind: errdefs.IsInvalidArgument, want: "name"},
		"name twice":          {spec: Spec{Name: "taken"}, kind: errdefs.IsAlreadyExists, want: "already there"},
		"predefined name":     {spec: Spec{Name: "host"}, kind: errdefs.IsAlreadyExists},
		"driver":              {spec: Spec{Name: "x", Driver: "overlay"}, kind: errdefs.IsInvalidArgument, want: `"overlay"`},
		"overlap":             {spec: Spec{Name: "x", Subnets: []Subnet{{Subnet: prefix("10.76.0.0/15")}}}, kind: errdefs.IsConflict, want: "10.76.0.0/16 of network taken"},
		"routed":              {spec: Spec{Name: "x", Subnets: []Subnet{{Subnet: prefix("203.0.113.128/25")}}}, kind: errdefs.IsConflict, want: "203.0.113.0/24, which this host routes"},
		"two of a kind":       {spec: Spec{Name: "x", Subnets: []Subnet{{Subnet: prefix("10.1.0.0/24")}, {Subnet: prefix("10.2.0.0/24")}}}, kind: errdefs.IsInvalidArgument},
		"bad subnet":          {spec: Spec{Name: "x", Subnets: []Subnet{{Subnet: prefix("10.1.0.0/32")}}}, kind: errdefs.IsInvalidArgument},
		"no family":           {spec: Spec{Name: "x", DisableIPv4: true}, kind: errdefs.IsInvalidArgument},
		"interface is there":  {spec: Spec{Name: "x", Options: map[string]string{OptionBridgeName: "wire0"}}, kind: errdefs.IsAlreadyExists, want: "wire0"},
		"interface of ours":   {spec: Spec{Name: "x", Options: map[string]string{OptionBridgeName: "takenbr"}}, kind: errdefs.IsConflict, want: "network taken"},
		"interface's name":    {spec: Spec{Name: "x", Options: map[string]string{OptionBridgeName: "a b"}}, kind: errdefs.IsInvalidArgument},
		"MTU":                 {spec: Spec{Name: "x", Options: map[string]string{OptionMTU: "1"}}, kind: errdefs.IsInvalidArgument},
		"a boolean":           {spec: Spec{Name: "x", Options: map[string]string{OptionICC: "maybe"}}, kind: errdefs.IsInvalidArgument},
		"an address":          {spec: Spec{Name: "x", Options: map[string]string{OptionHostIP: "localhost"}}, kind: errdefs.IsInvalidArgument},
		"an unknown option":   {spec: Spec{Name: "x", Options: map[string]string{"com.docker.network.bridge.trusted_host_interfaces": "eth0"}}, kind: errdefs.IsInvalidArgument, want: "not supported"},
		"IPv4 where there is": {spec: Spec{Name: "x", DisableIPv4: true, Subnets: []Subnet{{Subnet: prefix("10.1.0.0/24")}}}, kind: errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			m := m.at(t)
			before := m.snapshot()
			t.Cleanup(func() {
				var now string
				if !poll(func() bool { now = m.snapshot(); return now == before }) {
					t.Errorf("left behind:\n%s", difference(before, now))
				}
			})
			n, err := c.Create(t.Context(), test.spec)
			if test.kind != nil {
				if err == nil || !test.kind(err) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %q", err, test.want)
				}
				if got := len(c.List()); got != 4 {
					t.Errorf("%d networks after an error", got)
				}
				return
			}
			must(t, err)
			if got, err := c.Get(n.ID[:20]); err != nil || fmt.Sprint(got) != fmt.Sprint(n) {
				t.Errorf("%+v %v, want %+v", got, err, n)
			}
			if !strings.Contains(run(t, "ip", "-o", "link"), n.Bridge) {
				t.Errorf("there is no interface %s", n.Bridge)
			}
			s := m.attach(c, Request{ContainerID: "c", Endpoints: []EndpointRequest{{Network: n.Name}}})
			m.serve(s.NS, TCP, ":80", "c")
			ep := s.Endpoints[0]
			for _, a := range []netip.Prefix{ep.IPv4, ep.IPv6} {
				if a.IsValid() {
					gateway := map[bool]netip.Addr{true: ep.Gateway4, false: ep.Gateway6}[a.Addr().Is4()]
					m.reaches(m.host, TCP, netip.AddrPortFrom(a.Addr(), 80).String(), "c to "+gateway.String())
				}
			}
			if err := c.Remove(t.Context(), n.Name); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "(c)") {
				t.Errorf("removed while in use: %v", err)
			}
			must(t, s.Close())
			must(t, c.Detach(t.Context(), "c"))
			must(t, c.Remove(t.Context(), n.ID))
			if err := c.Remove(t.Context(), n.ID); !errdefs.IsNotFound(err) {
				t.Errorf("removed twice: %v", err)
			}
		})
	}
}

func (c *Controller) addTaken(t *testing.T) error {
	_, err := c.Create(t.Context(), Spec{Name: "taken", Subnets: []Subnet{{Subnet: prefix("10.76.0.0/16")}}, Options: map[string]string{OptionBridgeName: "takenbr"}})
	return err
}

func TestNetworkOptionsReachTheContainer(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	_, err := c.Create(t.Context(), Spec{Name: "n", Options: map[string]string{OptionMTU: "1400"}, Subnets: []Subnet{{
		Subnet: prefix("10.78.0.0/16"), IPRange: prefix("10.78.5.0/30"), Gateway: addr("10.78.0.254"), Aux: map[string]netip.Addr{"x": addr("10.78.5.1")},
	}}})
	must(t, err)
	s := m.attach(c, Request{ContainerID: "c", Endpoints: []EndpointRequest{{Network: "n"}}})
	if ep := s.Endpoints[0]; ep.IPv4 != prefix("10.78.5.0/16") && ep.IPv4 != prefix("10.78.5.2/16") || ep.Gateway4 != addr("10.78.0.254") {
		t.Errorf("%+v", ep)
	}
	link := runIn(t, s.NS, "ip", "-o", "link", "show", "eth0")
	if !containsLine(link, "mtu 1400", s.Endpoints[0].MAC.String()) {
		t.Error(link)
	}
	if route := runIn(t, s.NS, "ip", "route"); !containsLine(route, "default via 10.78.0.254") {
		t.Error(route)
	}
	fixed := m.attach(c, Request{ContainerID: "d", Endpoints: []EndpointRequest{{Network: "n", IPv4: addr("10.78.9.9"), MAC: []byte{2, 0, 0, 1, 2, 3}}}})
	if out := runIn(t, fixed.NS, "ip", "-o", "addr"); !containsLine(out, "10.78.9.9/16") || !containsLine(runIn(t, fixed.NS, "ip", "-o", "link"), "02:00:00:01:02:03") {
		t.Error(out)
	}
	for name, ep := range map[string]EndpointRequest{
		"taken":             {Network: "n", IPv4: addr("10.78.9.9")},
		"gateway":           {Network: "n", IPv4: addr("10.78.0.254")},
		"auxiliary":         {Network: "n", IPv4: addr("10.78.5.1")},
		"elsewhere":         {Network: "n", IPv4: addr("10.79.0.1")},
		"no IPv6":           {Network: "n", IPv6: addr("fd00::7")},
		"multicast MAC":     {Network: "n", MAC: []byte{1, 0, 0, 0, 0, 1}},
		"short MAC":         {Network: "n", MAC: []byte{2, 0}},
		"default network":   {Network: "bridge", IPv4: addr("10.78.9.9")},
		"unknown network":   {Network: "nowhere"},
		"none, with a wish": {Network: "none", IPv4: addr("10.78.9.9")},
	} {
		if s, err := c.Attach(t.Context(), Request{ContainerID: "bad", Endpoints: []EndpointRequest{ep}}); err == nil {
			t.Errorf("%s: attached as %+v", name, s.Endpoints)
		}
	}
}

// TestRestartKeepsNetworks: records survive; a damaged one is set aside and takes no other with it.
func TestRestartKeepsNetworks(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	var want []Network
	for _, name := range []string{"one", "two", "three"} {
		n, err := c.Create(t.Context(), Spec{Name: name, EnableIPv6: name == "two", Labels: map[string]string{"a": "b"}})
		must(t, err)
		want = append(want, n)
	}
	must(t, c.Close(t.Context()))
	m.unchanged()
	c = m.open()
	for _, n := range want {
		if got, err := c.Get(n.Name); err != nil || fmt.Sprint(got) != fmt.Sprint(n) {
			t.Errorf("%+v %v, want %+v", got, err, n)
		}
	}
	s := m.attach(c, Request{ContainerID: "c", Endpoints: []EndpointRequest{{Network: "two"}}})
	m.serve(s.NS, TCP, ":80", "c")
	m.reaches(m.host, TCP, s.Endpoints[0].IPv4.Addr().String()+":80", "c to "+s.Endpoints[0].Gateway4.String())
	must(t, c.Detach(t.Context(), "c"))
	must(t, c.Close(t.Context()))

	path := filepath.Join(m.opts.Root, "networks", want[0].ID)
	b, err := os.ReadFile(path)
	must(t, err)
	b[10] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
	c = m.open()
	if _, err := c.Get("one"); !errdefs.IsNotFound(err) {
		t.Errorf("a damaged record was read: %v", err)
	}
	if _, err := c.Get("three"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
}

func TestGetAmbiguous(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	if _, err := c.Get(""); !errdefs.IsNotFound(err) {
		t.Errorf("nothing was found as something: %v", err)
	}
	seen := map[byte]bool{}
	for i := range 17 { // more than there are first digits
		n, err := c.Create(t.Context(), Spec{Name: fmt.Sprint("n", i)})
		must(t, err)
		if seen[n.ID[0]] {
			if _, err := c.Get(n.ID[:1]); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v", n.ID[:1], err)
			}
			return
		}
		seen[n.ID[0]] = true
	}
	t.Error("17 ids begin with different digits")
}

// TestDefaultSubnetMovesAway: the host routes the default network's subnet elsewhere by the time the
// engine starts again.
func TestDefaultSubnetMovesAway(t *testing.T) {
	m := newMachine(t)
	c, err := Open(t.Context(), m.opts)
	must(t, err)
	before, err := c.Get("bridge")
	must(t, err)
	must(t, c.Close(t.Context()))
	again, err := Open(t.Context(), m.opts)
	must(t, err)
	same, err := again.Get("bridge")
	must(t, err)
	must(t, again.Close(t.Context()))
	if same.Subnets[0].Subnet != before.Subnets[0].Subnet || same.ID != before.ID {
		t.Errorf("without a reason, %v became %v", before, same)
	}
	run(t, "ip", "route", "add", before.Subnets[0].Subnet.String(), "via", outsideAddr.String())
	t.Cleanup(func() { run(t, "ip", "route", "del", before.Subnets[0].Subnet.String()) })
	moved, err := m.open().Get("bridge")
	must(t, err)
	if moved.Subnets[0].Subnet.Overlaps(before.Subnets[0].Subnet) {
		t.Errorf("%s is still used", moved.Subnets[0].Subnet)
	}
	m.opts.Subnet, m.opts.Subnet6 = prefix("10.99.0.5/24"), prefix("fd99::/64")
	chosen, err := m.open().Get("bridge")
	must(t, err)
	if s := chosen.Subnets; len(s) != 2 || s[0].Subnet != prefix("10.99.0.0/24") || s[0].Gateway != addr("10.99.0.5") || s[1].Gateway != addr("fd99::1") || !chosen.IPv6 {
		t.Errorf("%+v", s)
	}
}

func TestHostAndNone(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	s := m.attach(c, Request{ContainerID: "h", Endpoints: []EndpointRequest{{Network: "host"}}, Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}}})
	if s.NS != nil || len(s.Ports)+len(s.Listeners) != 0 || len(s.Endpoints) != 1 || s.Endpoints[0].IPv4.IsValid() {
		t.Errorf("host: %+v", s)
	}
	s = m.attach(c, Request{ContainerID: "n", Endpoints: []EndpointRequest{{Network: "none"}}})
	if links := strings.Count(runIn(t, s.NS, "ip", "-o", "link"), "\n"); links != 1 {
		t.Errorf("none has %d links", links)
	}
	m.serve(s.NS, TCP, "127.0.0.1:80", "self")
	m.reaches(s.NS, TCP, "127.0.0.1:80", "self to 127.0.0.1")
	if a, err := c.Lookup("n"); err != nil || a.Endpoints[0].NetworkName != "none" {
		t.Errorf("%+v %v", a, err)
	}
	if _, err := c.Attach(t.Context(), Request{ContainerID: "x", Endpoints: []EndpointRequest{{Network: "none"}, {Network: "bridge"}}}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	if _, err := c.Attach(t.Context(), Request{ContainerID: "x", Endpoints: []EndpointRequest{{Network: "bridge"}, {Network: c.defaultNetworkID()}}}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	for _, id := range []string{"", ".", "..", "a/b", "-a", strings.Repeat("a", 200)} {
		if _, err := c.Attach(t.Context(), Request{ContainerID: id}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("id %q: %v", id, err)
		}
	}
}
