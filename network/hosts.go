package network

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
)

// Hosts returns what the hosts file of an attached container should say of itself and of other
// containers: in user-defined networks everybody's names, in the default network its own host name
// only. Its own come first, the others by address.
func (c *Controller) Hosts(containerID string) ([]HostEntry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.attached[containerID]
	if a == nil || !a.ready {
		return nil, fmt.Errorf("container %s is not attached to a network: %w", containerID, errdefs.ErrNotFound)
	}
	var own, others []HostEntry
	for _, ep := range a.Endpoints {
		names := slices.Clone(ep.Names)
		if a.Hostname != "" && !slices.Contains(names, a.Hostname) {
			names = append([]string{a.Hostname}, names...)
		}
		own = append(own, ep.entries(names)...)
		for _, other := range c.attached {
			if other == a || !other.ready {
				continue
			}
			for _, there := range other.Endpoints {
				if there.NetworkID == ep.NetworkID {
					others = append(others, there.entries(there.Names)...)
				}
			}
		}
	}
	slices.SortFunc(others, func(x, y HostEntry) int { return x.Addr.Compare(y.Addr) })
	return append(own, others...), nil
}

// Rename changes the name under which an attached container is found. An unknown container is no
// error: it gets its name when it is attached.
func (c *Controller) Rename(ctx context.Context, containerID, name string) error {
	end, err := c.begin()
	if err != nil {
		return err
	}
	defer end()
	a, err := c.hold(containerID)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer a.op.Unlock()
	c.mu.Lock()
	a.Name = name
	a.Endpoints = slices.Clone(a.Endpoints)
	for i := range a.Endpoints {
		ep := &a.Endpoints[i]
		if l := c.networks[ep.NetworkID]; l != nil {
			ep.name(EndpointRequest{Aliases: ep.Aliases}, &a.Attached, l.record)
		}
	}
	c.mu.Unlock()
	c.namesChanged(a.Endpoints)
	return c.writeState(a)
}

func (e Endpoint) entries(names []string) []HostEntry {
	var es []HostEntry
	for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
		if p.IsValid() && len(names) > 0 {
			es = append(es, HostEntry{p.Addr(), names})
		}
	}
	return es
}

// notices calls Options.NamesChanged, from one goroutine and with what has come together meanwhile.
type notices struct {
	call func([]string)

	mu      sync.Mutex      // the last of all locks
	pending map[string]bool // ids of containers; guarded by mu
	closed  bool            // guarded by mu
	wake    chan struct{}
	done    sync.WaitGroup
}

func newNotices(call func([]string)) *notices {
	n := &notices{call: call, pending: map[string]bool{}, wake: make(chan struct{}, 1)}
	if call != nil {
		n.done.Go(n.run)
	}
	return n
}

func (n *notices) run() {
	for range n.wake {
		n.mu.Lock()
		ids := slices.Sorted(maps.Keys(n.pending))
		clear(n.pending)
		n.mu.Unlock()
		if len(ids) > 0 {
			n.call(ids)
		}
	}
}

func (n *notices) add(ids []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.call == nil || n.closed || len(ids) == 0 {
		return
	}
	for _, id := range ids {
		n.pending[id] = true
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// close waits for the last call.
func (n *notices) close() {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.wake)
	}
	n.mu.Unlock()
	n.done.Wait()
}

// namesChanged notes that names in the networks of eps are others now, and what the containers ids
// find. It needs nothing held but, perhaps, an attachment's op.
func (c *Controller) namesChanged(eps []Endpoint, ids ...string) {
	c.mu.Lock()
	for id, a := range c.attached {
		shared := slices.ContainsFunc(a.Endpoints, func(there Endpoint) bool {
			return slices.ContainsFunc(eps, func(ep Endpoint) bool {
				return ep.NetworkID == there.NetworkID && len(ep.Names) > 0
			})
		})
		if a.ready && shared {
			ids = append(ids, id)
		}
	}
	c.mu.Unlock()
	c.notices.add(ids)
}
