package network

import (
	"net/netip"
	"time"
)

// Drivers, by Docker's names.
const (
	DriverBridge = "bridge"
	DriverHost   = "host"
	DriverNull   = "null"
)

// The networks that are always there and can't be removed.
const (
	DefaultBridge = "bridge"
	Host          = "host"
	None          = "none"
)

// Options of a bridge network that are understood, by Docker's names. Others that begin with
// "com.docker." are refused, and what doesn't is kept as it is.
const (
	OptionBridgeName = "com.docker.network.bridge.name"                 // name of the interface
	OptionMasquerade = "com.docker.network.bridge.enable_ip_masquerade" // "false": containers keep their address outside
	OptionICC        = "com.docker.network.bridge.enable_icc"           // "false": containers can't talk to each other
	OptionHostIP     = "com.docker.network.bridge.host_binding_ipv4"    // where ports are published that name no address
	OptionMTU        = "com.docker.network.driver.mtu"                  // bytes
)

// Network is a record. It never changes after it was made, except for the default network's
// subnet, which moves out of the way of a new route of the host's while no container uses it.
type Network struct {
	ID         string // 64 hexadecimal digits
	Name       string
	Driver     string
	Created    time.Time
	IPv4, IPv6 bool     // which kinds of address its containers have
	Subnets    []Subnet // at most one of each kind; none for host and none
	Internal   bool     // no way out of it, and none in
	Attachable bool
	Labels     map[string]string
	Options    map[string]string
	Bridge     string // name of the interface on the host; "" where there is none
}

// Subnet is the addresses of a network.
type Subnet struct {
	Subnet  netip.Prefix          // masked
	Gateway netip.Addr            // the bridge's address
	IPRange netip.Prefix          // what is given to containers that ask for none; zero: all of Subnet
	Aux     map[string]netip.Addr // addresses that something else has, by a name for it
}

// Predefined reports whether n is one of the three networks that are always there.
func (n Network) Predefined() bool {
	return n.Name == DefaultBridge || n.Name == Host || n.Name == None
}

// Spec is what Create is asked for.
type Spec struct {
	Name        string
	Driver      string // "" means bridge
	DisableIPv4 bool
	EnableIPv6  bool     // also implied by a subnet of IPv6
	Subnets     []Subnet // parts that are zero are chosen
	Internal    bool
	Attachable  bool
	Labels      map[string]string
	Options     map[string]string
}
