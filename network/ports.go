package network

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// portClaims is which ports of the host this engine's containers have, by protocol and number.
type portClaims map[portKey][]portClaim

type portKey struct {
	proto string
	port  uint16
}

type portClaim struct {
	addr      netip.Addr
	container string
}

func (p Port) key() portKey { return portKey{p.Proto, p.HostPort} }

// holder returns the id of a container whose claim keeps p from being used, "" if there is none.
func (cs portClaims) holder(p Port) string {
	for _, c := range cs[p.key()] {
		if c.addr == p.HostIP || c.addr.Is4() == p.HostIP.Is4() && (c.addr.IsUnspecified() || p.HostIP.IsUnspecified()) {
			return c.container
		}
	}
	return ""
}

func (cs portClaims) add(container string, ports []Port) {
	for _, p := range ports {
		cs[p.key()] = append(cs[p.key()], portClaim{p.HostIP, container})
	}
}

func (cs portClaims) release(ports []Port) {
	for _, p := range ports {
		left := slices.DeleteFunc(cs[p.key()], func(c portClaim) bool { return c.addr == p.HostIP })
		if len(left) == 0 {
			delete(cs, p.key())
		} else {
			cs[p.key()] = left
		}
	}
}

// outlet returns the endpoint by which a container is reached from outside, nil if there is none.
func (a *Attached) outlet() *Endpoint {
	for i, ep := range a.Endpoints {
		if ep.Gateway4.IsValid() || ep.Gateway6.IsValid() {
			return &a.Endpoints[i]
		}
	}
	return nil
}

// target returns where what comes to p is to go: to the address of the same kind, else to the other,
// which only a proxy can do.
func (p Port) target(out *Endpoint) netip.AddrPort {
	addr := cmp.Or(out.IPv4, out.IPv6)
	if !p.HostIP.Is4() {
		addr = cmp.Or(out.IPv6, out.IPv4)
	}
	return netip.AddrPortFrom(addr.Addr(), p.ContainerPort)
}

// mappings returns what the kernel is to translate for a container.
func (a *Attached) mappings() []mapping {
	out := a.outlet()
	if out == nil {
		return nil
	}
	var ms []mapping
	for _, p := range a.Ports {
		to := p.target(out)
		if p.HostIP.Is4() == to.Addr().Is4() && p.HostIP != netip.IPv6Loopback() {
			ms = append(ms, mapping{Host: netip.AddrPortFrom(p.HostIP, p.HostPort), To: to, Proto: p.Proto})
		}
	}
	return ms
}

// claimPorts opens a socket for every port that bindings ask for, and enters the ports in a. Where a
// container has no way out (no network, the host's, internal ones only) nothing is published, as with
// Docker. It needs a.op.
func (c *Controller) claimPorts(a *attachment, lans []*lan, bindings []PortBinding) (_ []Listener, err error) {
	out := a.outlet()
	if out == nil || len(bindings) == 0 {
		return nil, nil
	}
	var listeners []Listener
	defer func() {
		if err != nil {
			err = errors.Join(err, closeListeners(listeners))
		}
	}()
	for _, b := range bindings {
		hosts, err := c.hostIPs(b, out, lans)
		if err != nil {
			return nil, err
		}
		opened, err := c.openBinding(a, b, hosts, bindings)
		if err != nil {
			return nil, err
		}
		for i := range opened {
			opened[i].Target = opened[i].Port.target(out)
		}
		listeners = append(listeners, opened...)
	}
	return listeners, nil
}

func closeListeners(ls []Listener) error {
	var errs []error
	for _, l := range ls {
		errs = append(errs, l.File.Close())
	}
	return errors.Join(errs...)
}

// hostIPs returns the addresses that a binding is for.
func (c *Controller) hostIPs(b PortBinding, out *Endpoint, lans []*lan) ([]netip.Addr, error) {
	if b.HostIP.IsValid() {
		return []netip.Addr{b.HostIP.Unmap()}, nil
	}
	for _, l := range lans {
		if l.record.ID == out.NetworkID && l.record.Options[OptionHostIP] != "" {
			addr, err := netip.ParseAddr(l.record.Options[OptionHostIP])
			return []netip.Addr{addr.Unmap()}, err
		}
	}
	if d := c.opts.DefaultHostIP; d.IsValid() {
		return []netip.Addr{d.Unmap()}, nil
	}
	if !hasIPv6() {
		return []netip.Addr{netip.IPv4Unspecified()}, nil
	}
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
}

// hasIPv6 reports whether the host has an IPv6 address to listen on, be it the loopback's.
func hasIPv6() bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err == nil && len(b) > 0 && b[0] == '0'
}

// A free port may be taken between two of the sockets that it needs; then another is tried.
const ephemeralTries = 64

// openBinding finds a port of the host that is free on all of hosts, and opens and claims it. all are the bindings of the
// same container.
func (c *Controller) openBinding(a *attachment, b PortBinding, hosts []netip.Addr, all []PortBinding) ([]Listener, error) {
	port := Port{HostPort: b.HostPort, ContainerPort: b.ContainerPort, Proto: cmp.Or(b.Proto, TCP)}
	if port.Proto != TCP && port.Proto != UDP {
		return nil, fmt.Errorf("publish port %d/%s: only tcp and udp can be published: %w", b.ContainerPort, b.Proto, errdefs.ErrInvalidArgument)
	}
	if b.ContainerPort == 0 || b.HostPortEnd != 0 && b.HostPortEnd < b.HostPort {
		return nil, fmt.Errorf("publish port %d/%s on host ports %d to %d: %w", b.ContainerPort, port.Proto, b.HostPort, b.HostPortEnd, errdefs.ErrInvalidArgument)
	}
	last, tries := max(b.HostPort, b.HostPortEnd), 1
	if b.HostPort == 0 {
		last, tries = 0, ephemeralTries
	}
	var err error
	for range tries {
		for n := int(port.HostPort); n <= int(last); n++ {
			try := port
			try.HostPort = uint16(n)
			var ls []Listener
			if ls, err = c.openPort(a, try, hosts); err == nil || !errors.Is(err, errdefs.ErrUnavailable) {
				return ls, err
			}
		}
	}
	var taken *takenError
	if errors.As(err, &taken) {
		taken.instead = c.instead(taken.port, b, hosts, all)
	}
	if b.HostPortEnd > b.HostPort {
		err = fmt.Errorf("no port from %d to %d is free on this host: %w", b.HostPort, b.HostPortEnd, err)
	}
	return nil, err
}

// openPort opens and claims one port on all of hosts; port 0 becomes what the kernel finds free for
// the first. The error is unavailable where something has it.
func (c *Controller) openPort(a *attachment, port Port, hosts []netip.Addr) (_ []Listener, err error) {
	c.binding.Lock() // so that who has a port has also claimed it, and can be named
	defer c.binding.Unlock()
	var listeners []Listener
	defer func() {
		if err != nil {
			err = errors.Join(err, closeListeners(listeners))
		}
	}()
	var ports []Port
	for _, h := range hosts {
		port.HostIP = h
		if who := c.portHolder(port); who != "" {
			return nil, &takenError{port: port, holder: "container " + who}
		}
		f, err := listen(port)
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, &takenError{port: port, holder: socketHolder(port)}
		}
		if err != nil {
			return nil, cannotListen(port, err)
		}
		if port.HostPort == 0 {
			if port.HostPort, err = boundPort(f); err != nil {
				return nil, errors.Join(err, f.Close())
			}
		}
		listeners = append(listeners, Listener{File: f, Port: port})
		ports = append(ports, port)
	}
	return listeners, c.claimOpened(a, ports)
}

// portHolder returns the name of a container of this engine's that has a port.
func (c *Controller) portHolder(p Port) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.claims.holder(p)
	if a := c.attached[id]; a != nil && a.Name != "" {
		return a.Name
	}
	return shortID(id)
}

func (c *Controller) claimOpened(a *attachment, ports []Port) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range ports {
		if id := c.claims.holder(p); id != "" {
			return &takenError{port: p, holder: "container " + shortID(id)}
		}
	}
	c.claims.add(a.ContainerID, ports)
	a.Ports = append(a.Ports, ports...)
	return nil
}

func (p Port) String() string {
	s := fmt.Sprintf("port %d", p.HostPort)
	if p.Proto == UDP {
		s += "/udp"
	}
	if !p.HostIP.IsUnspecified() {
		return s + " on " + p.HostIP.String()
	}
	return s + " on this host"
}

// takenError says that something has a port.
type takenError struct {
	port    Port
	holder  string
	instead string // what -p could say, "": nothing is known
}

func (e *takenError) Error() string {
	s := fmt.Sprintf("%s is already taken by %s", e.port, e.holder)
	if e.instead != "" {
		s += "; publish another with -p " + e.instead
	}
	return s + ": " + errdefs.ErrUnavailable.Error()
}

func (e *takenError) Unwrap() error { return errdefs.ErrUnavailable }

// nearby is how many ports above one that is taken, and below it, are looked at for one that is free.
const nearby = 100

// instead returns what -p could say in place of b: a port near the taken one that is free just now and that none of the
// container's bindings asks for. "": there is none.
func (c *Controller) instead(taken Port, b PortBinding, hosts []netip.Addr, all []PortBinding) string {
	c.binding.Lock() // or who opens a port just now finds it taken by this look
	defer c.binding.Unlock()
	for _, step := range []int{1, -1} {
		for i := 1; i <= nearby; i++ {
			n := int(taken.HostPort) + step*i
			if n < 1 || n > 65535 {
				break
			}
			try := taken
			try.HostPort = uint16(n)
			if !isAsked(try, all) && c.isFree(try, hosts) {
				return try.flag(b.HostIP)
			}
		}
	}
	return ""
}

// isAsked tells whether one of the bindings asks for the port.
func isAsked(p Port, bindings []PortBinding) bool {
	return slices.ContainsFunc(bindings, func(b PortBinding) bool {
		return cmp.Or(b.Proto, TCP) == p.Proto && b.HostPort <= p.HostPort && p.HostPort <= max(b.HostPort, b.HostPortEnd)
	})
}

// isFree tells whether a port could be opened on all of hosts. It needs binding.
func (c *Controller) isFree(p Port, hosts []netip.Addr) bool {
	for _, h := range hosts {
		p.HostIP = h
		if c.portHolder(p) != "" {
			return false
		}
		f, err := listen(p)
		if err != nil {
			return false
		}
		f.Close()
	}
	return true
}

// flag is how -p asks for the port, on an address where one was named.
func (p Port) flag(host netip.Addr) string {
	s := fmt.Sprintf("%d:%d", p.HostPort, p.ContainerPort)
	if p.Proto == UDP {
		s += "/udp"
	}
	switch {
	case !host.IsValid():
		return s
	case host.Unmap().Is4():
		return host.Unmap().String() + ":" + s
	}
	return "[" + host.String() + "]:" + s
}

func cannotListen(p Port, err error) error {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("can't publish %s: no interface of this host has that address: %w", p, errdefs.ErrInvalidArgument)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("can't publish %s: ports below %s need root: %w", p, "net.ipv4.ip_unprivileged_port_start", errdefs.ErrPermissionDenied)
	}
	return fmt.Errorf("can't publish %s: %w", p, err)
}

// listen opens a socket on a port: listening for TCP, bound for UDP. It is close-on-exec and not
// blocking.
func listen(p Port) (_ *os.File, err error) {
	kind := unix.SOCK_STREAM
	if p.Proto == UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family(p.HostIP), kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), net.JoinHostPort(p.HostIP.String(), fmt.Sprint(p.HostPort))+"/"+p.Proto)
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if !p.HostIP.Is4() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	if p.Proto == TCP { // or connections of a container before this one keep the port for a minute
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, sockaddr(p)); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if p.Proto == TCP {
		if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
			return nil, os.NewSyscallError("listen", err)
		}
	}
	return f, nil
}

func sockaddr(p Port) unix.Sockaddr {
	if p.HostIP.Is4() {
		return &unix.SockaddrInet4{Port: int(p.HostPort), Addr: p.HostIP.As4()}
	}
	return &unix.SockaddrInet6{Port: int(p.HostPort), Addr: p.HostIP.As16()}
}

func boundPort(f *os.File) (port uint16, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var sa unix.Sockaddr
	if e := conn.Control(func(fd uintptr) { sa, err = unix.Getsockname(int(fd)) }); e != nil {
		return 0, e
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return uint16(sa.Port), nil
	}
	return 0, os.NewSyscallError("getsockname", err)
}
