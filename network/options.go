package network

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/containerd/errdefs"
)

// Options say where a Controller keeps its state and how it names what it makes. Only the two roots
// are necessary.
type Options struct {
	// Root is the engine's data root: one durable record a network in Root/networks.
	Root string
	// ExecRoot is the engine's run-time root: what is attached now is in ExecRoot/network. Every name
	// on the host derives from this path.
	ExecRoot string

	// Name is the name of the nftables table and of the default bridge's interface, and what all
	// other names derive from instead of ExecRoot. At most 15 bytes (IFNAMSIZ).
	Name string
	// Bridge is the interface of the default network, where it is to have another name than Name.
	// It is made and removed as any other.
	Bridge string
	// Subnet is the subnet of the default network; the zero value chooses one that is free of the
	// host's routes. Its address is the gateway where it is not the subnet's first.
	Subnet netip.Prefix
	// Subnet6 switches IPv6 on in the default network.
	Subnet6 netip.Prefix
	// Pools is where subnets are cut from for networks that name none; nil means DefaultPools().
	Pools []Pool

	// Warm is how many sandboxes of the default network are kept ready; 0 means 2, less means none.
	Warm int
	// Busy tells whether a container is being started, beside which no sandbox is made ahead; nil: never.
	Busy func() bool
	// DefaultHostIP is the address on which ports are published that name none; the zero value is
	// every address of the host, IPv4 and IPv6.
	DefaultHostIP netip.Addr

	// NamesChanged, where not nil, is called after the names that containers of user-defined networks
	// should find have changed, with the ids of the attached containers whose Hosts are new. It is
	// called from one goroutine of the Controller's, never while Attach or Detach of the same
	// goroutine is waiting for it, and not after Close has returned.
	NamesChanged func(containerIDs []string)
	// Log gets what goes wrong where nobody waits for it; nil means slog.Default().
	Log *slog.Logger
}

// Pool is a range from which subnets of one size are cut.
type Pool struct {
	Base netip.Prefix
	Size int // length of a subnet's prefix, in bits
}

// DefaultPools returns the pools that are used where none are named: 172.18.0.0 to 172.31.255.255
// and 192.168.0.0/16, in subnets of 4096 addresses. 172.17.0.0/16, which Docker takes on every
// machine, is left alone.
func DefaultPools() []Pool {
	var pools []Pool
	for _, base := range []string{"172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13", "192.168.0.0/16"} {
		pools = append(pools, Pool{Base: netip.MustParsePrefix(base), Size: 20})
	}
	return pools
}

// complete fills in what may be left out, and checks the rest.
func (o *Options) complete() error {
	if o.Root == "" || o.ExecRoot == "" {
		return fmt.Errorf("network: data root and exec root must be named: %w", errdefs.ErrInvalidArgument)
	}
	if o.Pools == nil {
		o.Pools = DefaultPools()
	}
	for _, p := range o.Pools {
		if err := p.valid(); err != nil {
			return err
		}
	}
	if o.Warm == 0 {
		o.Warm = 2
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Subnet.IsValid() && !o.Subnet.Addr().Is4() || o.Subnet6.IsValid() && !o.Subnet6.Addr().Is6() {
		return fmt.Errorf("the default network's subnets %s and %s: one of IPv4 and one of IPv6 are possible: %w", o.Subnet, o.Subnet6, errdefs.ErrInvalidArgument)
	}
	return nil
}
