package cli

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/format"
)

type networkOptions struct {
	driver, ipamDriver             string
	attachable, internal           bool
	ipv4, ipv6                     bool
	gateways                       []net.IP
	ranges                         []net.IPNet
	subnets                        []string
	labels                         []string
	auxAddresses, ipamOpt, options pairs
}

func setupNetworkCreate(a *App, c *cobra.Command) {
	o := networkOptions{auxAddresses: pairs{}, ipamOpt: pairs{}, options: pairs{}}
	c.Use = "create [OPTIONS] NETWORK"
	c.Example = "berth network create --subnet 10.9.0.0/24 backend"
	c.Args = nArgs(1, 1)
	fs := c.Flags()
	fs.BoolVar(&o.attachable, "attachable", false, "Enable manual container attachment")
	fs.Var(o.auxAddresses, "aux-address", "Auxiliary IPv4 or IPv6 addresses used by Network driver")
	fs.StringVarP(&o.driver, "driver", "d", "bridge", "Driver to manage the Network")
	fs.IPSliceVar(&o.gateways, "gateway", nil, "IPv4 or IPv6 Gateway for the master subnet")
	fs.BoolVar(&o.internal, "internal", false, "Restrict external access to the network")
	fs.IPNetSliceVar(&o.ranges, "ip-range", nil, "Allocate container ip from a sub-range")
	fs.StringVar(&o.ipamDriver, "ipam-driver", "default", "IP Address Management Driver")
	fs.Var(o.ipamOpt, "ipam-opt", "Set IPAM driver specific options")
	fs.BoolVar(&o.ipv4, "ipv4", true, "Enable or disable IPv4 address assignment")
	fs.BoolVar(&o.ipv6, "ipv6", false, "Enable or disable IPv6 address assignment")
	fs.Var((*stringList)(&o.labels), "label", "Set metadata on a network")
	fs.VarP(o.options, "opt", "o", "Set driver specific options")
	fs.StringSliceVar(&o.subnets, "subnet", nil, "Subnet in CIDR format that represents a network segment")
	c.RunE = func(c *cobra.Command, args []string) error {
		ipam, err := o.ipam()
		if err != nil {
			return err
		}
		req := client.NetworkRequest{
			Name: args[0], Driver: o.driver, IPAM: ipam, Internal: o.internal, Attachable: o.attachable,
			Options: o.options, Labels: labelMap(o.labels),
		}
		if fs.Changed("ipv4") {
			req.EnableIPv4 = &o.ipv4
		}
		if fs.Changed("ipv6") {
			req.EnableIPv6 = &o.ipv6
		}
		engine, err := a.client()
		if err != nil {
			return err
		}
		id, warning, err := engine.NetworkCreate(c.Context(), req)
		if err != nil {
			return err
		}
		if warning != "" {
			a.warnf("%s", warning)
		}
		a.printf("%s\n", id)
		return nil
	}
}

// ipam puts each gateway, range and auxiliary address to the subnet that contains it.
func (o *networkOptions) ipam() (*client.IPAM, error) {
	ipam := &client.IPAM{Driver: o.ipamDriver, Options: o.ipamOpt, Config: []client.IPAMConfig{}}
	var prefixes []netip.Prefix
	for _, s := range o.subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("--subnet: %q is not a subnet such as 10.9.0.0/24", s)
		}
		for _, other := range prefixes {
			if p.Overlaps(other) {
				return nil, fmt.Errorf("--subnet: %s and %s overlap", other, p)
			}
		}
		prefixes = append(prefixes, p)
		ipam.Config = append(ipam.Config, client.IPAMConfig{Subnet: s})
	}
	of := func(flag string, ip netip.Addr) (*client.IPAMConfig, error) {
		for i, p := range prefixes {
			if p.Contains(ip) {
				return &ipam.Config[i], nil
			}
		}
		return nil, fmt.Errorf("%s: no --subnet contains %s", flag, ip)
	}
	for _, gateway := range o.gateways {
		ip, _ := netip.AddrFromSlice(gateway)
		c, err := of("--gateway", ip.Unmap())
		if err != nil {
			return nil, err
		}
		if c.Gateway != "" {
			return nil, fmt.Errorf("--gateway: the subnet %s has two", c.Subnet)
		}
		c.Gateway = ip.Unmap().String()
	}
	for _, r := range o.ranges {
		ip, _ := netip.AddrFromSlice(r.IP)
		c, err := of("--ip-range", ip.Unmap())
		if err != nil {
			return nil, err
		}
		if c.IPRange != "" {
			return nil, fmt.Errorf("--ip-range: the subnet %s has two", c.Subnet)
		}
		c.IPRange = r.String()
	}
	for name, address := range o.auxAddresses {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			return nil, fmt.Errorf("--aux-address: %q is not an IP address", address)
		}
		c, err := of("--aux-address", ip)
		if err != nil {
			return nil, err
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]string{}
		}
		c.AuxAddress[name] = address
	}
	return ipam, nil
}

func setupNetworkLs(a *App, c *cobra.Command) {
	var text string
	var quiet, noTrunc bool
	f := filters{}
	c.Use = "ls [OPTIONS]"
	c.Example = "berth network ls -f driver=bridge"
	c.Args = nArgs(0, 0)
	fs := c.Flags()
	filterFlag(fs, f, `Provide filter values (e.g. "driver=bridge")`)
	fs.StringVar(&text, "format", "", formatUsage)
	fs.BoolVar(&noTrunc, "no-trunc", false, "Do not truncate the output")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Only display network IDs")
	c.RunE = func(c *cobra.Command, _ []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		q, err := f.query()
		if err != nil {
			return err
		}
		networks, err := engine.NetworkList(c.Context(), q)
		if err != nil {
			return err
		}
		slices.SortFunc(networks, func(x, y client.Network) int { return strings.Compare(x.Name, y.Name) })
		rows := make([]*networkRow, len(networks))
		for i := range networks {
			rows[i] = &networkRow{networks[i], !noTrunc}
		}
		if text == "" {
			text = a.configuredFormat("networksFormat")
		}
		if quiet {
			text = "{{.ID}}"
		}
		return format.List(a.Out, text, `{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}`, &networkRow{}, rows)
	}
}

// networkRow is a network as tables and templates see it.
type networkRow struct {
	n     client.Network
	trunc bool
}

// Columns are Docker's.
func (r *networkRow) Columns() format.Header {
	return format.Header{
		"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6", "Internal": "INTERNAL",
		"Labels": "LABELS", "CreatedAt": "CREATED AT",
	}
}

func (r *networkRow) ID() string {
	if r.trunc {
		return format.ShortID(r.n.ID)
	}
	return r.n.ID
}

func (r *networkRow) Name() string             { return r.n.Name }
func (r *networkRow) Driver() string           { return r.n.Driver }
func (r *networkRow) Scope() string            { return r.n.Scope }
func (r *networkRow) IPv4() string             { return fmt.Sprint(r.n.EnableIPv4) }
func (r *networkRow) IPv6() string             { return fmt.Sprint(r.n.EnableIPv6) }
func (r *networkRow) Internal() string         { return fmt.Sprint(r.n.Internal) }
func (r *networkRow) Labels() string           { return format.Labels(r.n.Labels) }
func (r *networkRow) Label(name string) string { return r.n.Labels[name] }
func (r *networkRow) CreatedAt() string {
	return r.n.Created.Format("2006-01-02 15:04:05.999999999 -0700 MST")
}

func setupNetworkRm(a *App, c *cobra.Command) {
	var force bool
	c.Use = "rm NETWORK [NETWORK...]"
	c.Example = "berth network rm backend"
	c.Args = nArgs(1, -1)
	c.Flags().BoolVarP(&force, "force", "f", false, "Do not error if the network does not exist")
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		return a.each(args, func(name string) (string, error) {
			if err := engine.NetworkRemove(c.Context(), name); err != nil {
				if force && client.IsNotFound(err) {
					return "", nil
				}
				return "", err
			}
			return name, nil
		})
	}
}
