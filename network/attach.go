package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
)

// Protocols of published ports.
const (
	TCP = "tcp"
	UDP = "udp"
)

// Request is what a container needs.
type Request struct {
	ContainerID string
	// Name and Hostname are found by the containers of the same user-defined networks, beside the
	// short id and the endpoints' aliases. Hostname may be "".
	Name, Hostname string
	// Endpoints are the networks in the order of the interfaces eth0, eth1, …; the first whose
	// network has a way out has the default route. None means the default network; "none" or "host"
	// must be alone.
	Endpoints []EndpointRequest
	Ports     []PortBinding
}

// EndpointRequest asks for a place in one network.
type EndpointRequest struct {
	Network string           // name or id
	IPv4    netip.Addr       // zero: chosen
	IPv6    netip.Addr       // zero: chosen, where the network has IPv6
	MAC     net.HardwareAddr // nil: derived from the address
	Aliases []string
}

// PortBinding asks for a port of the container to be published.
type PortBinding struct {
	HostIP        netip.Addr // zero: the network's (OptionHostIP), else Options.DefaultHostIP
	HostPort      uint16     // 0: a free one is chosen
	HostPortEnd   uint16     // 0, or the last of a range from which one is chosen
	ContainerPort uint16
	Proto         string // TCP or UDP; "" means TCP
}

// Sandbox is a network for one container. The caller owns its descriptors.
type Sandbox struct {
	ContainerID string
	// NS is the network namespace; nil where the container is to use the host's.
	NS        *os.File
	Endpoints []Endpoint
	Ports     []Port
	// Listeners are sockets that hold the published ports. They belong to the process that lives as
	// long as the container (the shim): it forwards what arrives on them to Target.
	Listeners []Listener
}

// Close closes every descriptor of s that is not nil; who keeps one sets it to nil before. The
// namespace lives as long as a process or another descriptor holds it.
func (s *Sandbox) Close() error {
	var errs []error
	if s.NS != nil {
		errs = append(errs, s.NS.Close())
		s.NS = nil
	}
	for i := range s.Listeners {
		if f := s.Listeners[i].File; f != nil {
			errs = append(errs, f.Close())
			s.Listeners[i].File = nil
		}
	}
	return errors.Join(errs...)
}

// Endpoint is a container's place in one network.
type Endpoint struct {
	ID          string // 64 hexadecimal digits
	NetworkID   string
	NetworkName string
	Interface   string // inside: eth0, …
	HostVeth    string // outside
	MAC         net.HardwareAddr
	IPv4, IPv6  netip.Prefix // address and length of the subnet's prefix; zero: none
	Gateway4    netip.Addr   // zero: no way out
	Gateway6    netip.Addr
	Aliases     []string // as asked for
	Names       []string // all under which the container is found in this network
}

// Port is a published port. A binding to every address of the host makes one Port for IPv4 and one
// for IPv6, as Docker shows them.
type Port struct {
	HostIP        netip.Addr
	HostPort      uint16
	ContainerPort uint16
	Proto         string
}

// Listener is a socket bound to a published port: listening for TCP, bound for UDP. What reaches it
// was not translated by the kernel (it came to ::1, or from an IPv6 client to a container without
// IPv6, or the firewall's rules were flushed), and is to be forwarded to Target.
type Listener struct {
	*os.File
	Port   Port
	Target netip.AddrPort // in the container's network, reached from the host's namespace
}

// Attached is what Lookup knows of an attached container.
type Attached struct {
	ContainerID    string
	Name, Hostname string
	Endpoints      []Endpoint
	Ports          []Port
}

// Live is a container that runs while a new engine starts.
type Live struct {
	ContainerID string
	// NS is its network namespace, nil where the engine doesn't know. It stays the caller's.
	NS *os.File
}

// HostEntry is a line of a hosts file.
type HostEntry struct {
	Addr  netip.Addr
	Names []string
}
