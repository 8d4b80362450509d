package network

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func TestAddresses(t *testing.T) {
	a := newAddresses(Subnet{Subnet: prefix("10.0.0.0/29"), Gateway: addr("10.0.0.1"), Aux: map[string]netip.Addr{"router": addr("10.0.0.3")}})
	var got []netip.Addr
	for {
		one, err := a.take()
		if err != nil {
			if !errdefs.IsUnavailable(err) {
				t.Fatal(err)
			}
			break
		}
		got = append(got, one)
	}
	// Not the subnet's own, the gateway, the router, the broadcast address.
	want := []netip.Addr{addr("10.0.0.2"), addr("10.0.0.4"), addr("10.0.0.5"), addr("10.0.0.6")}
	if len(got) != len(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	a.release(addr("10.0.0.4"))
	if one, err := a.take(); err != nil || one != addr("10.0.0.4") {
		t.Errorf("after a release: %v %v", one, err)
	}
	a.release(addr("10.0.0.2"))
	a.release(addr("10.0.0.6"))
	if one, _ := a.take(); one != addr("10.0.0.6") {
		t.Errorf("the address given last but one rests: got %v", one)
	}
}

func TestAddressesReserve(t *testing.T) {
	a := newAddresses(Subnet{Subnet: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1"), IPRange: prefix("10.0.0.128/30")})
	for want, kind := range map[string]error{
		"10.0.0.0": errdefs.ErrInvalidArgument, "10.0.0.255": errdefs.ErrInvalidArgument, "10.0.1.1": errdefs.ErrInvalidArgument,
		"fd00::1": errdefs.ErrInvalidArgument, "10.0.0.1": errdefs.ErrConflict, "10.0.0.7": nil, "10.0.0.129": nil,
	} {
		if err := a.reserve(addr(want)); !errors.Is(err, kind) || (err == nil) != (kind == nil) {
			t.Errorf("%s: %v, want %v", want, err, kind)
		}
	}
	if err := a.reserve(addr("10.0.0.7")); !errdefs.IsConflict(err) {
		t.Errorf("reserved twice: %v", err)
	}
	got := map[netip.Addr]bool{}
	for range 3 { // the range's four, all usable, but for the one reserved
		one, err := a.take()
		if err != nil || got[one] || !prefix("10.0.0.128/30").Contains(one) || one == addr("10.0.0.129") {
			t.Fatalf("%v %v", one, err)
		}
		got[one] = true
	}
	if one, err := a.take(); err == nil {
		t.Errorf("the range has no address left, but gave %s", one)
	}
}

func TestAddresses6(t *testing.T) {
	a := newAddresses(Subnet{Subnet: prefix("fd00:1::/64"), Gateway: addr("fd00:1::1")})
	for _, want := range []string{"fd00:1::2", "fd00:1::3"} {
		if one, err := a.take(); err != nil || one != addr(want) {
			t.Errorf("%v %v, want %s", one, err, want)
		}
	}
}

func TestLastOf(t *testing.T) {
	for p, want := range map[string]string{
		"10.1.2.3/8": "10.255.255.255", "10.0.0.0/29": "10.0.0.7", "10.0.0.4/32": "10.0.0.4", "fd00::/126": "fd00::3", "0.0.0.0/0": "255.255.255.255",
	} {
		if got := lastOf(prefix(p)); got != addr(want) {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}

// FuzzAddresses takes, reserves and releases in any order: an address is never given twice, and
// always fit for an interface.
func FuzzAddresses(f *testing.F) {
	f.Add(uint8(29), []byte{0, 0, 0, 1, 5, 2, 0})
	f.Fuzz(func(t *testing.T, bits uint8, ops []byte) {
		p, err := addr("10.0.0.0").Prefix(24 + int(bits)%7)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Subnet{Subnet: p}.complete()
		if err != nil {
			t.Fatal(err)
		}
		a := newAddresses(s)
		given := map[netip.Addr]bool{}
		give := func(one netip.Addr) {
			if given[one] || one == s.Gateway || !usable(p, one) {
				t.Fatalf("%s was given, of %s", one, p)
			}
			given[one] = true
		}
		for i, op := range ops {
			one := netip.AddrFrom4([4]byte{10, 0, 0, byte(i) ^ op})
			switch op % 3 {
			case 0:
				if got, err := a.take(); err == nil {
					give(got)
				} else if free := 1<<(32-p.Bits()) - 3 - len(given); free > 0 {
					t.Fatalf("%d addresses are free, but: %v", free, err)
				}
			case 1:
				if a.reserve(one) == nil {
					give(one)
				}
			case 2:
				if given[one] {
					a.release(one)
					delete(given, one)
				}
			}
		}
	})
}
