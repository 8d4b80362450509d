package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// makeSandbox makes a namespace with the interfaces of eps, in the networks lans. After an error
// nothing of it is left but interfaces that die with the namespace.
func (c *Controller) makeSandbox(ctx context.Context, eps []Endpoint, lans []*lan) (_ *os.File, err error) {
	ns, err := newNamespace(c.host.ns)
	if err != nil {
		return nil, err
	}
	defer func() {
		ns.rtnl.close()
		if err != nil {
			err = errors.Join(err, ns.file.Close())
		}
	}()
	routed := defaultRoutes{}
	for i, ep := range eps {
		if ep.HostVeth == "" {
			continue // the network without anything
		}
		if err := c.plug(ctx, ns, lans[i], ep, &routed); err != nil {
			return nil, fmt.Errorf("connect to network %s: %w", ep.NetworkName, err)
		}
	}
	return ns.file, nil
}

// defaultRoutes says which default routes a namespace has: the first network with a way out has them.
type defaultRoutes struct{ v4, v6 bool }

// plug makes one interface of a namespace.
func (c *Controller) plug(ctx context.Context, ns *namespace, l *lan, ep Endpoint, routed *defaultRoutes) error {
	bridge, err := c.ensureBridge(ctx, l)
	if err != nil {
		return err
	}
	v := veth{host: ep.HostVeth, master: bridge, inside: ep.Interface, mac: ep.MAC, mtu: l.record.mtu(), ns: int(ns.file.Fd())}
	err = c.host.addVeth(v)
	if errors.Is(err, unix.ENODEV) { // the bridge: somebody deleted it
		if v.master, err = c.remakeBridge(ctx, l, bridge); err != nil {
			return err
		}
		err = c.host.addVeth(v)
	}
	if err != nil {
		return fmt.Errorf("make interface %s: %w", ep.Interface, err)
	}
	if err := c.setPort(l.record, ep.HostVeth); err != nil {
		return fmt.Errorf("set up port %s of the bridge: %w", ep.HostVeth, err)
	}
	if ep.IPv6.IsValid() {
		if err := c.allowIPv6(ns, ep.Interface); err != nil {
			return err
		}
	}
	return ns.configure(ep, routed)
}

// setPort sets up the host's end of an interface.
func (c *Controller) setPort(n Network, veth string) error {
	index, err := c.host.index(veth)
	if err != nil {
		return err
	}
	if err := c.host.guardLoopback(index); err != nil {
		c.unguarded.Do(func() {
			c.log.Warn("only the firewall's rules keep containers from the host's loopback addresses", "error", err)
		})
	}
	if isolated, hairpin := !n.option(OptionICC, true), bridgeNetfilter(); isolated || hairpin {
		return c.host.setPort(index, isolated, hairpin)
	}
	return nil
}

// bridgeNetfilter reports whether the kernel shows frames within a bridge to the firewall's rules for
// IP (br_netfilter). Then what a container sends to its own published port is translated within the
// bridge, and must be let out where it came in.
func bridgeNetfilter() bool {
	for _, family := range []string{"iptables", "ip6tables"} {
		if v, err := readSysctl("net/bridge/bridge-nf-call-" + family); err == nil && v != "0" {
			return true
		}
	}
	return false
}

func (c *Controller) allowIPv6(ns *namespace, ifname string) error {
	return inNamespace(c.host.ns, ns.file, func() error {
		conf := "net/ipv6/conf/" + ifname + "/"
		for _, s := range []sysctl{{conf + "accept_dad", "0"}, {conf + "disable_ipv6", "0"}} {
			if err := writeSysctl(s.path, s.value); errors.Is(err, fs.ErrNotExist) {
				return errors.New("this kernel has no IPv6")
			} else if err != nil {
				return err
			}
		}
		return nil
	})
}

// configure brings an interface up, with its addresses, and gives the namespace the default routes
// that it lacks.
func (n *namespace) configure(ep Endpoint, routed *defaultRoutes) error {
	index, err := n.index(ep.Interface)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", ep.Interface, err)
	}
	if err := n.up(index); err != nil {
		return fmt.Errorf("bring interface %s up: %w", ep.Interface, err)
	}
	for _, p := range []struct {
		addr    netip.Prefix
		gateway netip.Addr
		routed  *bool
	}{{ep.IPv4, ep.Gateway4, &routed.v4}, {ep.IPv6, ep.Gateway6, &routed.v6}} {
		if !p.addr.IsValid() {
			continue
		}
		if err := n.addAddress(index, p.addr); err != nil {
			return fmt.Errorf("give interface %s address %s: %w", ep.Interface, p.addr, err)
		}
		if !p.gateway.IsValid() || *p.routed {
			continue
		}
		if err := n.addDefaultRoute(index, p.gateway); err != nil {
			return fmt.Errorf("route through %s: %w", p.gateway, err)
		}
		*p.routed = true
	}
	return nil
}
