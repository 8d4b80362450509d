package network

import (
	"crypto/sha256"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
)

// cutSubnet returns the first subnet of pools that overlaps nothing in used, beginning the search at
// a place that seed decides, so that engines that know nothing of each other rarely meet. Error:
// unavailable.
func cutSubnet(pools []Pool, used []netip.Prefix, seed string) (netip.Prefix, error) {
	var total uint64
	for _, p := range pools {
		total += p.count()
	}
	if total == 0 {
		return netip.Prefix{}, fmt.Errorf("no address pool to take a subnet from: %w", errdefs.ErrUnavailable)
	}
	sum := sha256.Sum256([]byte(seed))
	at := (uint64(sum[0])<<24 | uint64(sum[1])<<16 | uint64(sum[2])<<8 | uint64(sum[3])) % total
	for range total {
		if s := nthSubnet(pools, at); !overlapsAny(s, used) {
			return s, nil
		}
		at = (at + 1) % total
	}
	return netip.Prefix{}, fmt.Errorf("every subnet of the address pools is in use, or routed elsewhere by this host; name one with --subnet, or remove networks with `berth network prune`: %w", errdefs.ErrUnavailable)
}

// valid reports what is wrong with a pool.
func (p Pool) valid() error {
	if !p.Base.IsValid() || !p.Base.Addr().Is4() || p.Size < p.Base.Bits() || p.Size > maxBits4 {
		return fmt.Errorf("address pool %s in subnets of /%d: want an IPv4 range, and a size from its own to /%d: %w", p.Base, p.Size, maxBits4, errdefs.ErrInvalidArgument)
	}
	return nil
}

func (p Pool) count() uint64 { return 1 << (p.Size - p.Base.Bits()) }

// nthSubnet returns the subnet number n of all that pools hold; n is less than their count.
func nthSubnet(pools []Pool, n uint64) netip.Prefix {
	i := 0
	for n >= pools[i].count() {
		n -= pools[i].count()
		i++
	}
	b := pools[i].Base.Masked().Addr().As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	v += uint32(n << (32 - pools[i].Size))
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), pools[i].Size)
}

// localSubnet6 returns a /64 of the unique local addresses (RFC 4193) whose global id is derived
// from seed.
func localSubnet6(seed string) netip.Prefix {
	sum := sha256.Sum256([]byte("berth ipv6 " + seed))
	var b [16]byte
	b[0] = 0xfd
	copy(b[1:8], sum[:7])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

func overlapsAny(p netip.Prefix, used []netip.Prefix) bool {
	for _, u := range used {
		if p.Overlaps(u) {
			return true
		}
	}
	return false
}

// The longest prefixes of subnets that leave room for a bridge and a container.
const (
	maxBits4 = 30
	maxBits6 = 126
)

// complete checks what s says, and chooses the gateway where it says none: the first address of the
// range, else of the subnet. Error: invalid argument.
func (s Subnet) complete() (Subnet, error) {
	invalid := func(format string, args ...any) (Subnet, error) {
		return Subnet{}, fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
	}
	if !s.Subnet.IsValid() || s.Subnet.Addr().Is4In6() {
		return invalid("subnet %s", s.Subnet)
	}
	if bits := s.Subnet.Bits(); s.Subnet.Addr().Is4() && bits > maxBits4 || bits > maxBits6 || bits < 8 {
		return invalid("subnet %s: its prefix must be from 8 to %d bits for IPv4, to %d for IPv6", s.Subnet, maxBits4, maxBits6)
	}
	if a := s.Subnet.Addr(); a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || s.Subnet.Masked().Addr().IsUnspecified() {
		return invalid("subnet %s: containers can't have such addresses", s.Subnet)
	}
	s.Subnet = s.Subnet.Masked()
	if s.IPRange.IsValid() {
		if s.IPRange.Bits() < s.Subnet.Bits() || !s.Subnet.Contains(s.IPRange.Addr()) {
			return invalid("address range %s is not in the subnet %s", s.IPRange, s.Subnet)
		}
		s.IPRange = s.IPRange.Masked()
	}
	if !s.Gateway.IsValid() {
		s.Gateway = s.Subnet.Addr().Next()
		for taken := true; taken; {
			taken = false
			for _, aux := range s.Aux {
				taken = taken || aux == s.Gateway
			}
			if taken {
				s.Gateway = s.Gateway.Next()
			}
		}
	}
	if !usable(s.Subnet, s.Gateway) {
		return invalid("gateway %s can't be an address of the subnet %s", s.Gateway, s.Subnet)
	}
	for name, aux := range s.Aux {
		if !s.Subnet.Contains(aux) {
			return invalid("auxiliary address %s=%s is not in the subnet %s", name, aux, s.Subnet)
		}
	}
	return s, nil
}
