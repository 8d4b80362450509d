package network

import (
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
)

// addresses gives out the addresses of one subnet. It is not safe for use by several goroutines.
//
// It takes the next free address after the one it gave last, so that an address rests as long as
// possible: the interface that had it may still answer while the kernel takes its namespace down.
type addresses struct {
	subnet netip.Prefix
	within netip.Prefix // subnet, or the part of it that is given to who asks for none
	next   netip.Addr
	taken  map[netip.Addr]struct{}
}

func newAddresses(s Subnet) *addresses {
	a := &addresses{subnet: s.Subnet, within: s.IPRange, taken: map[netip.Addr]struct{}{s.Gateway: {}}}
	if !a.within.IsValid() {
		a.within = a.subnet
	}
	a.next = a.within.Addr()
	for _, aux := range s.Aux {
		a.taken[aux] = struct{}{}
	}
	return a
}

// take gives out a free address. Error: unavailable, when there is none.
func (a *addresses) take() (netip.Addr, error) {
	// One more candidate than could be taken or unusable is enough to find a free one.
	for range len(a.taken) + 3 {
		addr := a.next
		a.next = addr.Next()
		if !a.within.Contains(a.next) {
			a.next = a.within.Addr()
		}
		if _, taken := a.taken[addr]; !taken && usable(a.subnet, addr) {
			a.taken[addr] = struct{}{}
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address is left in %s: %w", a.within, errdefs.ErrUnavailable)
}

// reserve gives out addr. Errors: invalid argument (not in the subnet), conflict (taken).
func (a *addresses) reserve(addr netip.Addr) error {
	if !usable(a.subnet, addr) {
		return fmt.Errorf("%s can't be a container's address in %s: %w", addr, a.subnet, errdefs.ErrInvalidArgument)
	}
	if _, taken := a.taken[addr]; taken {
		return fmt.Errorf("address %s is already in use: %w", addr, errdefs.ErrConflict)
	}
	a.taken[addr] = struct{}{}
	return nil
}

func (a *addresses) release(addr netip.Addr) { delete(a.taken, addr) }

// usable reports whether an interface can have addr in subnet: not the subnet's own (for IPv6 the
// routers' anycast address, RFC 4291 2.6.1), nor IPv4's broadcast address.
func usable(subnet netip.Prefix, addr netip.Addr) bool {
	return subnet.Contains(addr) && addr != subnet.Masked().Addr() && !(addr.Is4() && addr == lastOf(subnet))
}

// lastOf returns the highest address of p.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}
