package network

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetFlows makes the kernel forget, in the background, the UDP flows to published ports. It
// decides only once where the packets of a flow go, and a client that keeps sending would reach an
// address that no container has any more, or has again; TCP's ends see that for themselves.
func (c *Controller) forgetFlows(ms []mapping) {
	for _, m := range ms {
		if m.Proto != UDP {
			continue
		}
		filter := &netlink.ConntrackFilter{}
		if err := filter.AddProtocol(unix.IPPROTO_UDP); err != nil {
			continue // can't be: the filter is new
		}
		if err := filter.AddPort(netlink.ConntrackOrigDstPort, m.Host.Port()); err != nil {
			continue
		}
		c.chore(fmt.Sprintf("forget the flows to UDP port %d", m.Host.Port()), func() error {
			_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(family(m.Host.Addr())), filter)
			return err
		})
	}
}

// chore does in the background what nobody waits for but Close. What goes wrong is logged.
func (c *Controller) chore(what string, do func() error) {
	c.chores.Go(func() {
		if err := do(); err != nil {
			c.log.Warn("network: could not "+what, "error", err)
		}
	})
}
