package network

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// adopt makes a record for a live container that has none that can be read (the exec root was
// emptied, or is damaged), from its namespace: one endpoint for each interface whose other end is in
// one of the engine's bridges. What only the record knew, names and published ports, is lost. It needs
// mu.
func (c *Controller) adopt(live Live, links []netlink.Link) error {
	if same, err := sameFile(live.NS, c.host.ns); err != nil || same {
		return err
	}
	inside, err := netlink.NewHandleAt(netns.NsHandle(live.NS.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter the network of container %s: %w", live.ContainerID, err)
	}
	defer inside.Close()
	own, err := dump(inside.LinkList)
	if err != nil {
		return fmt.Errorf("list the interfaces of container %s: %w", live.ContainerID, err)
	}
	a := &attachment{ready: true, Attached: Attached{ContainerID: live.ContainerID}}
	for _, link := range own {
		host, l := c.otherEnd(link, links)
		if l == nil {
			continue
		}
		found, err := dump(func() ([]netlink.Addr, error) { return inside.AddrList(link, netlink.FAMILY_ALL) })
		if err != nil {
			return fmt.Errorf("list the addresses of container %s: %w", live.ContainerID, err)
		}
		a.Endpoints = append(a.Endpoints, l.observed(link, host, found))
	}
	if len(a.Endpoints) == 0 {
		return nil // its network is not ours: the host's, another container's, or none
	}
	c.log.Warn("the network of a running container was found without a record; its published ports are lost until it is restarted", "container", live.ContainerID)
	c.reenter(a)
	return c.writeState(a)
}

func sameFile(a, b *os.File) (bool, error) {
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(infoA, infoB), errors.Join(errA, errB)
}

// otherEnd returns the host's end of a container's interface, and the network that it is in; nil
// where it is none of ours, or another container's whose network this one shares. It needs mu.
func (c *Controller) otherEnd(link netlink.Link, links []netlink.Link) (netlink.Link, *lan) {
	known := c.knownVeths()
	bridges := map[int]string{}
	for _, h := range links {
		if isOwnBridge(c.names, h) {
			bridges[h.Attrs().Index] = h.Attrs().Name
		}
	}
	for _, h := range links {
		if link.Type() != "veth" || !isOwnVeth(c.names, h) || h.Attrs().Index != link.Attrs().ParentIndex || known[h.Attrs().Name] {
			continue
		}
		for _, l := range c.networks {
			if name := bridges[h.Attrs().MasterIndex]; name != "" && name == l.record.Bridge {
				return h, l
			}
		}
	}
	return nil, nil
}

// observed makes an endpoint of what an interface has: the first address of each kind that is in the
// network's subnets.
func (l *lan) observed(link, host netlink.Link, found []netlink.Addr) Endpoint {
	n := l.record
	ep := Endpoint{
		ID: randomHex(32), NetworkID: n.ID, NetworkName: n.Name,
		Interface: link.Attrs().Name, HostVeth: host.Attrs().Name, MAC: link.Attrs().HardwareAddr,
	}
	for _, f := range found {
		addr, ok := netip.AddrFromSlice(f.IP)
		if addr = addr.Unmap(); !ok {
			continue
		}
		s, has := n.subnet(addr.Is6())
		if !has || !usable(s.Subnet, addr) {
			continue
		}
		p := netip.PrefixFrom(addr, s.Subnet.Bits())
		if addr.Is4() {
			ep.IPv4 = cmp.Or(ep.IPv4, p)
		} else {
			ep.IPv6 = cmp.Or(ep.IPv6, p)
		}
		if !n.Internal && addr.Is4() {
			ep.Gateway4 = s.Gateway
		} else if !n.Internal {
			ep.Gateway6 = s.Gateway
		}
	}
	return ep
}
