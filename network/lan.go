package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// lan is a network at work: its record, its addresses, its bridge.
type lan struct {
	record Network    // Subnets of the default network: guarded by Controller.mu; the rest never changes
	v4, v6 *addresses // nil where the network has none; guarded by Controller.mu
	users  int        // endpoints, also half-made ones and those made ahead; guarded by Controller.mu

	up      sync.Mutex // before Controller.mu
	index   int        // of the bridge's interface, 0 while there is none; guarded by up
	removed bool       // guarded by up
}

func newLAN(n Network) *lan {
	l := &lan{record: n}
	l.reset()
	return l
}

// reset makes the allocators anew from the record.
func (l *lan) reset() {
	l.v4, l.v6 = nil, nil
	for _, s := range l.record.Subnets {
		if s.Subnet.Addr().Is4() {
			l.v4 = newAddresses(s)
		} else {
			l.v6 = newAddresses(s)
		}
	}
}

func (n Network) subnet(v6 bool) (Subnet, bool) {
	for _, s := range n.Subnets {
		if s.Subnet.Addr().Is6() == v6 {
			return s, true
		}
	}
	return Subnet{}, false
}

func (n Network) mtu() int {
	if mtu, err := strconv.Atoi(n.Options[OptionMTU]); err == nil && mtu > 0 {
		return mtu
	}
	return 1500
}

// option reads an option that is "true" or "false".
func (n Network) option(name string, without bool) bool {
	if b, err := strconv.ParseBool(n.Options[name]); err == nil {
		return b
	}
	return without
}

func (n Network) rules() bridgeRules {
	b := bridgeRules{
		Interface:  n.Bridge,
		Internal:   n.Internal,
		Isolated:   !n.option(OptionICC, true),
		Masquerade: n.option(OptionMasquerade, true),
	}
	for _, s := range n.Subnets {
		b.Subnets = append(b.Subnets, s.Subnet)
	}
	return b
}

// ensureBridge makes the network's bridge and everything that it needs, if it isn't there, and
// returns its index. It needs nothing held.
func (c *Controller) ensureBridge(ctx context.Context, l *lan) (index int, err error) {
	l.up.Lock()
	defer l.up.Unlock()
	if l.index != 0 {
		return l.index, nil
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if l.removed {
		return 0, fmt.Errorf("network %s was removed meanwhile: %w", l.record.Name, errdefs.ErrNotFound)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("bring network %s up: %w", l.record.Name, err), c.removeBridge(l), c.settleForwarding())
		}
	}()
	n := l.record
	if index, err = c.makeBridge(n); err != nil {
		return 0, err
	}
	if err := c.addRules(n); err != nil {
		return 0, err
	}
	l.index = index
	return index, nil
}

// makeBridge makes the interface, or takes over the one of an engine before.
func (c *Controller) makeBridge(n Network) (int, error) {
	mac := macFor(n.Subnets[0].Gateway)
	if err := c.host.addBridge(n.Bridge, mac, n.mtu(), c.names.bridgeGroup()); errors.Is(err, unix.EEXIST) {
		return c.adoptBridge(n)
	} else if err != nil {
		return 0, fmt.Errorf("make bridge %s: %w", n.Bridge, err)
	}
	index, err := c.host.index(n.Bridge)
	if err != nil {
		return 0, err
	}
	return index, c.configureBridge(n, index)
}

func (c *Controller) adoptBridge(n Network) (int, error) {
	link, err := c.host.dumps.LinkByName(n.Bridge)
	if err != nil {
		return 0, err
	}
	if !isOwnBridge(c.names, link) {
		return 0, fmt.Errorf("an interface %s is already on this host and not ours: %w", n.Bridge, errdefs.ErrAlreadyExists)
	}
	return link.Attrs().Index, c.configureBridge(n, link.Attrs().Index)
}

func (c *Controller) configureBridge(n Network, index int) error {
	conf4, conf6 := "net/ipv4/conf/"+n.Bridge+"/", "net/ipv6/conf/"+n.Bridge+"/"
	settings := []sysctl{
		{conf4 + "route_localnet", "1"}, // published ports on 127.0.0.1; chain guard is its counterpart
		{conf4 + "rp_filter", "1"},      // containers send with addresses that are routed to them, not with others'
		{conf6 + "accept_ra", "0"},
		{conf6 + "disable_ipv6", map[bool]string{true: "0", false: "1"}[n.IPv6]},
	}
	for _, s := range settings {
		if err := writeSysctl(s.path, s.value); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, s := range n.Subnets {
		p := netip.PrefixFrom(s.Gateway, s.Subnet.Bits())
		if err := c.host.addAddress(index, p); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("give bridge %s address %s: %w", n.Bridge, p, err)
		}
	}
	return nil
}

// removeBridge takes the bridge and its rules away. It needs l.up, and that nothing is attached.
func (c *Controller) removeBridge(l *lan) error {
	l.index = 0
	if l.record.Bridge == "" {
		return nil
	}
	err := c.fw.removeBridge(l.record.Bridge)
	link, e := c.host.dumps.LinkByName(l.record.Bridge)
	if e == nil && isOwnBridge(c.names, link) {
		if e := c.host.deleteLink(link.Attrs().Index); e != nil && !errors.Is(e, unix.ENODEV) {
			err = errors.Join(err, fmt.Errorf("remove bridge %s: %w", l.record.Bridge, e))
		}
	}
	return err
}

// macFor derives a hardware address from an address, so that who remembers the last interface with
// the same address is not wrong about the next: locally administered (02), then as Docker does it.
func macFor(addr netip.Addr) net.HardwareAddr {
	mac := net.HardwareAddr{0x02, 0x42, 0, 0, 0, 0}
	b := addr.AsSlice()
	copy(mac[2:], b[len(b)-4:])
	return mac
}

// remakeBridge makes a bridge anew that somebody deleted.
func (c *Controller) remakeBridge(ctx context.Context, l *lan, was int) (int, error) {
	l.up.Lock()
	if l.index == was {
		l.index = 0
	}
	l.up.Unlock()
	return c.ensureBridge(ctx, l)
}
