package network

import (
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
)

func TestCutSubnet(t *testing.T) {
	pools := []Pool{{prefix("10.0.0.0/30"), 31}, {prefix("10.1.0.0/23"), 24}}
	var used []netip.Prefix
	for range 4 {
		got, err := cutSubnet(pools, used, "seed")
		if err != nil || overlapsAny(got, used) {
			t.Fatalf("%v %v after %v", got, err, used)
		}
		used = append(used, got)
	}
	if got, err := cutSubnet(pools, used, "seed"); !errdefs.IsUnavailable(err) {
		t.Errorf("the pools are empty, but gave %v %v", got, err)
	}
	if _, err := cutSubnet(nil, nil, ""); !errdefs.IsUnavailable(err) {
		t.Errorf("no pools: %v", err)
	}
	begins := map[netip.Prefix]bool{}
	for _, seed := range []string{"a", "b", "c", "d"} {
		got, err := cutSubnet(DefaultPools(), nil, seed)
		if err != nil {
			t.Fatal(err)
		}
		begins[got] = true
	}
	if len(begins) < 3 {
		t.Errorf("different engines begin at the same subnets: %v", begins)
	}
}

func TestDefaultPools(t *testing.T) {
	seen := map[netip.Prefix]bool{}
	for _, p := range DefaultPools() {
		if err := p.valid(); err != nil {
			t.Error(err)
		}
		for n := range p.count() {
			s := nthSubnet([]Pool{p}, n)
			if seen[s] || !p.Base.Contains(s.Addr()) || s != s.Masked() || s.Overlaps(prefix("172.17.0.0/16")) {
				t.Fatalf("subnet %s of %s", s, p.Base)
			}
			seen[s] = true
		}
	}
}

func TestCompleteSubnet(t *testing.T) {
	for name, c := range map[string]struct {
		in      Subnet
		gateway string // "" wants an error
	}{
		"only a subnet":        {Subnet{Subnet: prefix("10.9.0.0/16")}, "10.9.0.1"},
		"not masked":           {Subnet{Subnet: prefix("10.9.0.7/16")}, "10.9.0.1"},
		"a gateway":            {Subnet{Subnet: prefix("10.9.0.0/16"), Gateway: addr("10.9.1.1")}, "10.9.1.1"},
		"the first is taken":   {Subnet{Subnet: prefix("10.9.0.0/16"), Aux: map[string]netip.Addr{"a": addr("10.9.0.1"), "b": addr("10.9.0.2")}}, "10.9.0.3"},
		"IPv6":                 {Subnet{Subnet: prefix("fd00:9::/64")}, "fd00:9::1"},
		"range":                {Subnet{Subnet: prefix("10.9.0.0/16"), IPRange: prefix("10.9.8.0/24")}, "10.9.0.1"},
		"range elsewhere":      {Subnet{Subnet: prefix("10.9.0.0/16"), IPRange: prefix("10.8.8.0/24")}, ""},
		"range too big":        {Subnet{Subnet: prefix("10.9.0.0/16"), IPRange: prefix("10.0.0.0/8")}, ""},
		"gateway elsewhere":    {Subnet{Subnet: prefix("10.9.0.0/16"), Gateway: addr("10.8.0.1")}, ""},
		"gateway of all":       {Subnet{Subnet: prefix("10.9.0.0/16"), Gateway: addr("10.9.255.255")}, ""},
		"auxiliary elsewhere":  {Subnet{Subnet: prefix("10.9.0.0/16"), Aux: map[string]netip.Addr{"a": addr("10.8.0.1")}}, ""},
		"no room":              {Subnet{Subnet: prefix("10.9.0.0/31")}, ""},
		"everything":           {Subnet{Subnet: prefix("0.0.0.0/0")}, ""},
		"loopback":             {Subnet{Subnet: prefix("127.0.0.0/16")}, ""},
		"multicast":            {Subnet{Subnet: prefix("224.1.0.0/16")}, ""},
		"link-local":           {Subnet{Subnet: prefix("fe80::/64")}, ""},
		"IPv4 written as IPv6": {Subnet{Subnet: netip.PrefixFrom(netip.AddrFrom16(addr("10.0.0.0").As16()), 104)}, ""},
		"nothing":              {Subnet{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.in.complete()
			if c.gateway == "" {
				if !errdefs.IsInvalidArgument(err) {
					t.Fatalf("%+v %v", got, err)
				}
				return
			}
			if err != nil || got.Gateway != addr(c.gateway) || got.Subnet != got.Subnet.Masked() {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
}

func TestLocalSubnet6(t *testing.T) {
	a, b := localSubnet6("a"), localSubnet6("b")
	if a == b || a != localSubnet6("a") || !a.Addr().IsPrivate() || a.Bits() != 64 || a != a.Masked() {
		t.Errorf("%s %s", a, b)
	}
}
