package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"github.com/berth-engine/berth/internal/atomicfile"
)

// takeOver brings what the controller knows and what is on the host to the live containers.
func (c *Controller) takeOver(live []Live) error {
	links, err := c.host.links()
	if err != nil {
		return err
	}
	if err := c.loadAttached(live, links); err != nil {
		return err
	}
	if err := c.forward.load(); err != nil {
		return err
	}
	c.adoptBridges(links)
	if err := c.loadFirewall(); err != nil {
		return err
	}
	return errors.Join(c.sweepLinks(links), c.settleForwarding())
}

// loadAttached reads the records of what was attached, enters the live, and removes the others.
func (c *Controller) loadAttached(live []Live, links []netlink.Link) error {
	lives := map[string]Live{}
	for _, l := range live {
		lives[l.ContainerID] = l
	}
	entries, err := os.ReadDir(c.containersDir())
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		a := &attachment{ready: true}
		path := filepath.Join(c.containersDir(), e.Name())
		_, alive := lives[e.Name()]
		err := atomicfile.ReadRecord(path, &a.Attached)
		if err == nil && alive && a.ContainerID == e.Name() {
			c.reenter(a)
			continue
		}
		if err != nil && alive {
			c.log.Error("the record of a running container's network is damaged", "container", e.Name(), "error", err)
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	for _, l := range live {
		if c.attached[l.ContainerID] == nil && l.NS != nil {
			if err := c.adopt(l, links); err != nil {
				c.log.Error("a running container's network could not be found", "container", l.ContainerID, "error", err)
			}
		}
	}
	return nil
}

// reenter enters an attachment that an engine before this one made. An address that another has too
// is logged, not refused: the container runs. It needs mu.
func (c *Controller) reenter(a *attachment) {
	for _, ep := range a.Endpoints {
		l := c.networks[ep.NetworkID]
		if l == nil {
			c.log.Error("a running container's network has no record", "container", a.ContainerID, "network", ep.NetworkName)
			continue
		}
		l.users++
		if l.v4 != nil && ep.IPv4.IsValid() {
			if err := l.v4.reserve(ep.IPv4.Addr()); err != nil {
				c.log.Error("a running container's address", "container", a.ContainerID, "error", err)
			}
		}
		if l.v6 != nil && ep.IPv6.IsValid() {
			if err := l.v6.reserve(ep.IPv6.Addr()); err != nil {
				c.log.Error("a running container's address", "container", a.ContainerID, "error", err)
			}
		}
	}
	c.claims.add(a.ContainerID, a.Ports)
	c.attached[a.ContainerID] = a
}

// adoptBridges notes which networks have their bridge.
func (c *Controller) adoptBridges(links []netlink.Link) {
	for _, l := range c.lans() {
		for _, link := range links {
			if link.Attrs().Name == l.record.Bridge && isOwnBridge(c.names, link) {
				l.up.Lock()
				l.index = link.Attrs().Index
				l.up.Unlock()
			}
		}
	}
}

// lans returns the networks at one moment.
func (c *Controller) lans() []*lan {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*lan
	for _, l := range c.networks {
		all = append(all, l)
	}
	return all
}

// loadFirewall replaces the table by one for the bridges and ports that are there.
func (c *Controller) loadFirewall() error {
	var bridges []bridgeRules
	for _, l := range c.lans() {
		l.up.Lock()
		if l.index != 0 {
			bridges = append(bridges, l.record.rules())
		}
		l.up.Unlock()
	}
	var ms []mapping
	c.mu.Lock()
	for _, a := range c.attached {
		ms = append(ms, a.mappings()...)
	}
	c.mu.Unlock()
	c.forward.mu.Lock()
	defer c.forward.mu.Unlock()
	err := c.fw.load(bridges, ms, c.forward.record)
	if err != nil && len(bridges) == 0 {
		c.log.Warn("the firewall can't be used; containers can have the host's network, or none", "error", err)
		return nil
	}
	return err
}

// sweepLinks deletes the engine's links of which nobody knows: ends of dead containers' interfaces
// that the kernel is still about to delete, and bridges of networks that are gone.
func (c *Controller) sweepLinks(links []netlink.Link) error {
	c.mu.Lock()
	known := c.knownVeths()
	for _, l := range c.networks {
		known[l.record.Bridge] = true
	}
	c.mu.Unlock()
	inUse := map[int]bool{} // bridges that a live container is in, also where the network's record is lost
	for _, l := range links {
		if isOwnVeth(c.names, l) && known[l.Attrs().Name] {
			inUse[l.Attrs().MasterIndex] = true
		}
	}
	var unknown []int
	for _, l := range links {
		own := isOwnVeth(c.names, l) || isOwnBridge(c.names, l)
		if own && !known[l.Attrs().Name] && !inUse[l.Attrs().Index] {
			unknown = append(unknown, l.Attrs().Index)
		}
	}
	if err := c.host.deleteLinks(c.names.deadGroup(), unknown); err != nil {
		return fmt.Errorf("delete what is left of old networks: %w", err)
	}
	return nil
}

// knownVeths returns the host's ends of attached containers' interfaces, by name. It needs mu.
func (c *Controller) knownVeths() map[string]bool {
	known := map[string]bool{}
	for _, a := range c.attached {
		for _, ep := range a.Endpoints {
			known[ep.HostVeth] = true
		}
	}
	return known
}

// giveBack removes from the host all that no attached container needs.
func (c *Controller) giveBack() error {
	var errs []error
	for _, l := range c.lans() {
		errs = append(errs, c.rest(l))
	}
	links, err := c.host.links()
	errs = append(errs, err, c.sweepLinks(links), c.settleForwarding())
	if c.unused() {
		if err := os.Remove(filepath.Join(c.state, "default")); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// rest removes the bridge of a network that nobody uses.
func (c *Controller) rest(l *lan) error {
	l.up.Lock()
	defer l.up.Unlock()
	c.mu.Lock()
	users := l.users
	c.mu.Unlock()
	if users > 0 || l.index == 0 {
		return nil
	}
	return c.removeBridge(l)
}

func (c *Controller) unused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.attached) == 0
}
