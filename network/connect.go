package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Connect puts a running container, whose network namespace ns is, into one more network. ns stays
// the caller's. Errors: not found (container not attached, network), already exists (it is in that
// network), conflict (the container has the host's network, or none; the address is taken).
func (c *Controller) Connect(ctx context.Context, containerID string, ns *os.File, req EndpointRequest) (_ Endpoint, err error) {
	end, err := c.begin()
	if err != nil {
		return Endpoint{}, err
	}
	defer end()
	a, err := c.hold(containerID)
	if err != nil {
		return Endpoint{}, err
	}
	defer a.op.Unlock()
	l, ep, err := c.claimEndpoint(a, req)
	if err != nil {
		return Endpoint{}, fmt.Errorf("connect container %s to network %s: %w", shortID(containerID), req.Network, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.dropEndpoint(a, ep.ID))
		}
	}()
	if err := c.writeState(a); err != nil {
		return Endpoint{}, err
	}
	inside, err := enterNamespace(c.host.ns, ns)
	if err != nil {
		return Endpoint{}, err
	}
	defer inside.rtnl.close()
	if ep, err = c.plugNext(ctx, inside, l, a, ep); err != nil {
		return Endpoint{}, fmt.Errorf("connect container %s to network %s: %w", shortID(containerID), l.record.Name, err)
	}
	if err := c.writeState(a); err != nil {
		return Endpoint{}, err
	}
	if err := c.fw.publish(a.mappings()); err != nil { // the first way out may be the new one
		return Endpoint{}, err
	}
	c.namesChanged([]Endpoint{ep})
	return ep, nil
}

// hold returns an attachment that is ready, with op held.
func (c *Controller) hold(containerID string) (*attachment, error) {
	c.mu.Lock()
	a := c.attached[containerID]
	c.mu.Unlock()
	if a != nil {
		a.op.Lock()
		if !a.gone {
			return a, nil
		}
		a.op.Unlock()
	}
	return nil, fmt.Errorf("container %s is not attached to a network: %w", containerID, errdefs.ErrNotFound)
}

// claimEndpoint adds an endpoint with its addresses to an attachment. It needs a.op.
func (c *Controller) claimEndpoint(a *attachment, req EndpointRequest) (*lan, Endpoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := c.find(req.Network)
	if err != nil {
		return nil, Endpoint{}, err
	}
	if l.record.Driver != DriverBridge {
		return nil, Endpoint{}, fmt.Errorf("running containers can't be connected to it: %w", errdefs.ErrConflict)
	}
	for _, ep := range a.Endpoints {
		if ep.NetworkID == l.record.ID {
			return nil, Endpoint{}, fmt.Errorf("the container is in it already: %w", errdefs.ErrAlreadyExists)
		}
		if ep.HostVeth == "" {
			return nil, Endpoint{}, fmt.Errorf("the container's network is %q, which can't be combined with others: %w", ep.NetworkName, errdefs.ErrConflict)
		}
	}
	ep, err := c.reserve(l, req)
	if err != nil {
		return nil, Endpoint{}, err
	}
	ep.name(req, &a.Attached, l.record)
	a.Endpoints = append(slices.Clone(a.Endpoints), ep)
	return l, ep, nil
}

// plugNext makes the interface under the first name that is free: others may be the container's own,
// or a disconnected one's that the kernel is still about to delete.
func (c *Controller) plugNext(ctx context.Context, ns *namespace, l *lan, a *attachment, ep Endpoint) (Endpoint, error) {
	routed := defaultRoutes{}
	for _, other := range a.Endpoints {
		if other.ID != ep.ID {
			routed.v4 = routed.v4 || other.Gateway4.IsValid()
			routed.v6 = routed.v6 || other.Gateway6.IsValid()
		}
	}
	const tries = 256
	for i := range tries {
		ep.Interface = "eth" + strconv.Itoa(i)
		if _, err := ns.index(ep.Interface); err == nil {
			continue
		} else if !errors.Is(err, unix.ENODEV) {
			return ep, err
		}
		err := c.plug(ctx, ns, l, ep, &routed)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		c.mu.Lock()
		a.replaceEndpoint(ep)
		c.mu.Unlock()
		return ep, err
	}
	return ep, fmt.Errorf("the container has more than %d interfaces: %w", tries, errdefs.ErrUnavailable)
}

func (a *Attached) replaceEndpoint(ep Endpoint) {
	a.Endpoints = slices.Clone(a.Endpoints)
	for i := range a.Endpoints {
		if a.Endpoints[i].ID == ep.ID {
			a.Endpoints[i] = ep
		}
	}
}

// Disconnect takes a running container out of a network. Errors: not found (network, or the
// container is not in it). Ports that were published there are published where it still has a way
// out.
func (c *Controller) Disconnect(ctx context.Context, containerID string, ns *os.File, networkRef string) error {
	end, err := c.begin()
	if err != nil {
		return err
	}
	defer end()
	a, err := c.hold(containerID)
	if err != nil {
		return err
	}
	defer a.op.Unlock()
	n, err := c.Get(networkRef)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(a.Endpoints, func(ep Endpoint) bool { return ep.NetworkID == n.ID })
	if i < 0 {
		return fmt.Errorf("container %s is not in network %s: %w", shortID(containerID), n.Name, errdefs.ErrNotFound)
	}
	ep := a.Endpoints[i]
	if ep.HostVeth == "" {
		return fmt.Errorf("a container can't be disconnected from network %s while it runs: %w", n.Name, errdefs.ErrConflict)
	}
	before := a.mappings()
	if err := c.fw.unpublish(before); err != nil {
		return err
	}
	c.forgetFlows(before)
	if err := c.unplug(ns, a, ep); err != nil {
		return errors.Join(err, c.fw.publish(before))
	}
	if err := c.dropEndpoint(a, ep.ID); err != nil {
		return err
	}
	c.namesChanged([]Endpoint{ep}, containerID)
	return c.fw.publish(a.mappings())
}

// dropEndpoint gives an endpoint's addresses back, and deletes its interface in the background. It
// needs a.op.
func (c *Controller) dropEndpoint(a *attachment, endpointID string) error {
	c.mu.Lock()
	i := slices.IndexFunc(a.Endpoints, func(ep Endpoint) bool { return ep.ID == endpointID })
	ep := a.Endpoints[i]
	a.Endpoints = slices.Delete(slices.Clone(a.Endpoints), i, i+1)
	c.releaseEndpoints([]Endpoint{ep})
	c.mu.Unlock()
	c.chore("delete an interface", func() error {
		index, err := c.host.index(ep.HostVeth)
		if err == nil {
			err = c.host.deleteLink(index)
		}
		if errors.Is(err, unix.ENODEV) {
			return nil
		}
		return err
	})
	return c.writeState(a)
}

// unplug takes an interface out of use at once: its name, its addresses and its routes. Deleting it
// takes long, and is left to dropEndpoint. Where it had the default route, another network gets it.
func (c *Controller) unplug(ns *os.File, a *attachment, ep Endpoint) error {
	inside, err := enterNamespace(c.host.ns, ns)
	if err != nil {
		return err
	}
	defer inside.rtnl.close()
	index, err := inside.index(ep.Interface)
	if errors.Is(err, unix.ENODEV) {
		return nil // the container deleted or renamed it: its other end goes all the same
	}
	if err != nil {
		return err
	}
	if err := inside.down(index); err != nil {
		return fmt.Errorf("take interface %s down: %w", ep.Interface, err)
	}
	if err := inside.rename(index, "gone"+randomHex(4)); err != nil {
		return fmt.Errorf("rename interface %s: %w", ep.Interface, err)
	}
	return inside.routeAnew(a.Endpoints, ep)
}

// routeAnew gives the namespace the default routes that went with an endpoint.
func (n *namespace) routeAnew(eps []Endpoint, without Endpoint) error {
	had := defaultRoutes{v4: !without.Gateway4.IsValid(), v6: !without.Gateway6.IsValid()}
	for _, ep := range eps {
		if ep.ID == without.ID {
			continue
		}
		if err := n.routeThrough(ep, &had); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

func (n *namespace) routeThrough(ep Endpoint, had *defaultRoutes) error {
	index, err := n.index(ep.Interface)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", ep.Interface, err)
	}
	if ep.Gateway4.IsValid() && !had.v4 {
		had.v4 = true
		if err := n.addDefaultRoute(index, ep.Gateway4); err != nil {
			return err
		}
	}
	if ep.Gateway6.IsValid() && !had.v6 {
		had.v6 = true
		return n.addDefaultRoute(index, ep.Gateway6)
	}
	return nil
}
