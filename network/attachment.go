package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/berth-engine/berth/internal/atomicfile"
)

// attachment is a container's claim on addresses and ports. It is entered before the first thing is
// acquired; destroy takes away whatever of it there is.
type attachment struct {
	op   sync.Mutex // held by who changes what the container has; the first of all locks
	gone bool       // guarded by op

	Attached      // changed with op and Controller.mu held
	ready    bool // Attach has ended well; guarded by Controller.mu
}

// containersDir holds one record an attached container.
func (c *Controller) containersDir() string { return filepath.Join(c.state, "containers") }

func (c *Controller) statePath(containerID string) string {
	return filepath.Join(c.containersDir(), containerID)
}

var containerIDRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// Attach makes a container's network: its namespace with interfaces, addresses and routes, its
// published ports and the sockets that hold them. Errors: not found (network), already exists (the
// container is attached), conflict (address taken), unavailable (a port that something else on the
// host has, named in the message; no address left), invalid argument. After an error nothing is left.
func (c *Controller) Attach(ctx context.Context, req Request) (_ *Sandbox, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	end, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	a, lans, warm, err := c.claim(req)
	if err != nil {
		return nil, err
	}
	defer a.op.Unlock()
	s := &Sandbox{ContainerID: req.ContainerID}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(), c.destroy(a))
		}
	}()
	if s.Listeners, err = c.claimPorts(a, lans, req.Ports); err != nil {
		return nil, err
	}
	if err := c.writeState(a); err != nil {
		return nil, err
	}
	switch {
	case warm != nil:
		s.NS = warm.ns
	case lans[0].record.Driver != DriverHost:
		if s.NS, err = c.makeSandbox(ctx, a.Endpoints, lans); err != nil {
			return nil, err
		}
	}
	if err := c.fw.publish(a.mappings()); err != nil {
		return nil, err
	}
	c.forgetFlows(a.mappings())
	s.Endpoints, s.Ports = slices.Clone(a.Endpoints), slices.Clone(a.Ports)
	c.mu.Lock()
	a.ready = true
	c.mu.Unlock()
	c.namesChanged(a.Endpoints)
	return s, nil
}

// claim enters an attachment, with its addresses, and returns it with op held. Where a sandbox made
// ahead serves, it is returned too, and its addresses are the attachment's.
func (c *Controller) claim(req Request) (_ *attachment, lans []*lan, _ *readySandbox, err error) {
	if !containerIDRule.MatchString(req.ContainerID) {
		return nil, nil, nil, fmt.Errorf("container id %q: %w", req.ContainerID, errdefs.ErrInvalidArgument)
	}
	if len(req.Endpoints) == 0 {
		req.Endpoints = []EndpointRequest{{Network: c.defaultNetworkID()}}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.attached[req.ContainerID] != nil {
		return nil, nil, nil, fmt.Errorf("container %s is attached already: %w", req.ContainerID, errdefs.ErrAlreadyExists)
	}
	for _, e := range req.Endpoints {
		l, err := c.find(e.Network)
		if err != nil {
			return nil, nil, nil, err
		}
		if slices.Contains(lans, l) {
			return nil, nil, nil, fmt.Errorf("network %s is named twice: %w", l.record.Name, errdefs.ErrInvalidArgument)
		}
		lans = append(lans, l)
		if l.record.Driver != DriverBridge && len(req.Endpoints) > 1 {
			return nil, nil, nil, fmt.Errorf("network %s can't be combined with others: %w", l.record.Name, errdefs.ErrInvalidArgument)
		}
	}
	a := &attachment{Attached: Attached{ContainerID: req.ContainerID, Name: req.Name, Hostname: req.Hostname}}
	if len(lans) == 1 && lans[0].record.ID == c.defaultNetworkID() && req.Endpoints[0].plain() {
		if warm := c.ready.take(); warm != nil {
			warm.endpoint.name(req.Endpoints[0], &a.Attached, lans[0].record)
			a.Endpoints = []Endpoint{warm.endpoint}
			c.enterAttachment(a)
			return a, lans, warm, nil
		}
	}
	for i, e := range req.Endpoints {
		ep, err := c.reserve(lans[i], e)
		if err != nil {
			c.releaseEndpoints(a.Endpoints)
			return nil, nil, nil, err
		}
		if ep.HostVeth != "" {
			ep.Interface = "eth" + strconv.Itoa(i)
		}
		ep.name(e, &a.Attached, lans[i].record)
		a.Endpoints = append(a.Endpoints, ep)
	}
	c.enterAttachment(a)
	return a, lans, nil, nil
}

func (c *Controller) enterAttachment(a *attachment) {
	a.op.Lock() // nobody else knows it yet, so this order is no danger
	c.attached[a.ContainerID] = a
}

// plain reports whether any endpoint of the network will do.
func (e EndpointRequest) plain() bool {
	return !e.IPv4.IsValid() && !e.IPv6.IsValid() && len(e.MAC) == 0
}

// name fills in the names under which the endpoint's container is found: in user-defined networks
// its name, short id, host name and aliases.
func (e *Endpoint) name(req EndpointRequest, a *Attached, n Network) {
	e.Aliases, e.Names = slices.Clone(req.Aliases), nil
	if n.Predefined() {
		return
	}
	for _, name := range append([]string{a.Name, shortID(a.ContainerID), a.Hostname}, req.Aliases...) {
		if name != "" && !slices.Contains(e.Names, name) {
			e.Names = append(e.Names, name)
		}
	}
}

func shortID(id string) string { return id[:min(len(id), 12)] }

// reserve takes addresses in l for an endpoint. It needs mu.
func (c *Controller) reserve(l *lan, req EndpointRequest) (ep Endpoint, err error) {
	n := l.record
	ep = Endpoint{ID: randomHex(32), NetworkID: n.ID, NetworkName: n.Name}
	if n.Driver != DriverBridge {
		if !req.plain() {
			return ep, fmt.Errorf("network %s has no addresses to choose: %w", n.Name, errdefs.ErrInvalidArgument)
		}
		l.users++
		return ep, nil
	}
	if n.Predefined() && (req.IPv4.IsValid() || req.IPv6.IsValid()) {
		return ep, fmt.Errorf("user specified IP address is supported on user defined networks only: %w", errdefs.ErrInvalidArgument)
	}
	ep.HostVeth, ep.MAC = c.names.veth(), slices.Clone(req.MAC)
	s4, _ := n.subnet(false)
	s6, _ := n.subnet(true)
	if ep.IPv4, err = claimAddress(l.v4, s4, req.IPv4); err != nil {
		return ep, fmt.Errorf("network %s: %w", n.Name, err)
	}
	if ep.IPv6, err = claimAddress(l.v6, s6, req.IPv6); err != nil {
		if ep.IPv4.IsValid() {
			l.v4.release(ep.IPv4.Addr())
		}
		return ep, fmt.Errorf("network %s: %w", n.Name, err)
	}
	if !n.Internal {
		ep.Gateway4, ep.Gateway6 = s4.Gateway, s6.Gateway
	}
	if ep.MAC == nil {
		ep.MAC = macFor(cmp.Or(ep.IPv4, ep.IPv6).Addr())
	}
	if err := validMAC(ep.MAC); err != nil {
		l.releaseAddresses(ep)
		return ep, err
	}
	l.users++
	return ep, nil
}

// claimAddress takes want, or any address where it is zero, from a subnet that may not exist.
func claimAddress(from *addresses, s Subnet, want netip.Addr) (netip.Prefix, error) {
	if from == nil {
		if want.IsValid() {
			return netip.Prefix{}, fmt.Errorf("it has no subnet for address %s: %w", want, errdefs.ErrInvalidArgument)
		}
		return netip.Prefix{}, nil
	}
	if want.IsValid() {
		return netip.PrefixFrom(want, s.Subnet.Bits()), from.reserve(want)
	}
	addr, err := from.take()
	return netip.PrefixFrom(addr, s.Subnet.Bits()), err
}

func validMAC(mac net.HardwareAddr) error {
	if len(mac) != 6 || mac[0]&1 != 0 || slices.Max(mac) == 0 {
		return fmt.Errorf("%s can't be an interface's hardware address: %w", mac, errdefs.ErrInvalidArgument)
	}
	return nil
}

func (l *lan) releaseAddresses(ep Endpoint) {
	if l.v4 != nil && ep.IPv4.IsValid() {
		l.v4.release(ep.IPv4.Addr())
	}
	if l.v6 != nil && ep.IPv6.IsValid() {
		l.v6.release(ep.IPv6.Addr())
	}
}

// releaseEndpoints gives addresses back. It needs mu.
func (c *Controller) releaseEndpoints(eps []Endpoint) {
	for _, ep := range eps {
		if l := c.networks[ep.NetworkID]; l != nil {
			l.releaseAddresses(ep)
			l.users--
		}
	}
}

func (c *Controller) writeState(a *attachment) error {
	return atomicfile.WriteRecord(c.statePath(a.ContainerID), a.Attached, atomicfile.Volatile)
}

// Detach gives back what the container has: addresses, ports, rules. It can be called for any id at
// any time, and again. The namespace goes with its last process or descriptor, its interfaces with it.
func (c *Controller) Detach(ctx context.Context, containerID string) error {
	end, err := c.begin()
	if err != nil {
		return err
	}
	defer end()
	c.mu.Lock()
	a := c.attached[containerID]
	c.mu.Unlock()
	if a == nil {
		return nil
	}
	a.op.Lock()
	defer a.op.Unlock()
	if a.gone {
		return nil
	}
	err = c.destroy(a)
	c.namesChanged(a.Endpoints)
	return err
}

// destroy takes away whatever there is of an attachment: rules first, so that nothing is sent to an
// address that may soon be another's, then the claims, then the record. It needs a.op.
func (c *Controller) destroy(a *attachment) error {
	if err := c.fw.unpublish(a.mappings()); err != nil {
		return err // still claimed: it can be tried again
	}
	c.forgetFlows(a.mappings())
	err := os.Remove(c.statePath(a.ContainerID))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a.gone = true
	c.releaseEndpoints(a.Endpoints)
	c.claims.release(a.Ports)
	delete(c.attached, a.ContainerID)
	return nil
}

// Lookup returns what an attached container has. Error: not found.
func (c *Controller) Lookup(containerID string) (Attached, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.attached[containerID]; a != nil && a.ready {
		return a.copy(), nil
	}
	return Attached{}, fmt.Errorf("container %s is not attached to a network: %w", containerID, errdefs.ErrNotFound)
}

// copy returns what stays as it is when the attachment changes.
func (a Attached) copy() Attached {
	a.Endpoints, a.Ports = slices.Clone(a.Endpoints), slices.Clone(a.Ports)
	return a
}

// Containers returns what is attached to the network with this id.
func (c *Controller) Containers(networkID string) []Attached {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []Attached
	for _, a := range c.attached {
		if a.ready && slices.ContainsFunc(a.Endpoints, func(e Endpoint) bool { return e.NetworkID == networkID }) {
			found = append(found, a.copy())
		}
	}
	slices.SortFunc(found, func(a, b Attached) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
	return found
}
