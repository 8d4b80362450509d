package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berth-engine/berth/internal/atomicfile"
)

// Create makes a network; it is durable when Create returns. Errors: already exists (the name is
// taken), conflict (a subnet that overlaps another's or a route of the host's), invalid argument.
func (c *Controller) Create(ctx context.Context, spec Spec) (Network, error) {
	end, err := c.begin()
	if err != nil {
		return Network{}, err
	}
	defer end()
	n, err := spec.network()
	if err != nil {
		return Network{}, fmt.Errorf("create network %q: %w", spec.Name, err)
	}
	routed, err := c.host.routes()
	if err != nil {
		return Network{}, err
	}
	l, err := c.claimNetwork(n, routed)
	if err != nil {
		return Network{}, fmt.Errorf("create network %q: %w", spec.Name, err)
	}
	if err := atomicfile.WriteRecord(c.recordPath(l.record.ID), l.record, atomicfile.Durable); err != nil {
		return Network{}, errors.Join(err, c.discard(l))
	}
	if _, err := c.ensureBridge(ctx, l); err != nil {
		return Network{}, errors.Join(err, c.discard(l))
	}
	return l.record, nil
}

var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// network checks a Spec and makes a record of it that has all but the chosen subnets and the bridge's
// derived name.
func (s Spec) network() (Network, error) {
	invalid := func(format string, args ...any) (Network, error) {
		return Network{}, fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
	}
	n := Network{
		ID: randomHex(32), Name: s.Name, Driver: cmp.Or(s.Driver, DriverBridge), Created: time.Now().UTC(),
		IPv4: !s.DisableIPv4, IPv6: s.EnableIPv6, Internal: s.Internal, Attachable: s.Attachable,
		Labels: maps.Clone(s.Labels), Options: maps.Clone(s.Options), Bridge: s.Options[OptionBridgeName],
	}
	if !nameRule.MatchString(s.Name) || len(s.Name) > 255 {
		return invalid("a network's name is letters, digits, \"_\", \".\" and \"-\", and begins with a letter or digit")
	}
	if n.Driver != DriverBridge {
		return invalid("driver %q: only %q networks can be created", n.Driver, DriverBridge)
	}
	for _, want := range s.Subnets {
		sub, err := want.complete()
		if err != nil {
			return Network{}, err
		}
		if _, twice := n.subnet(sub.Subnet.Addr().Is6()); twice {
			return invalid("more than one subnet of a kind (%s)", sub.Subnet)
		}
		if sub.Subnet.Addr().Is4() && s.DisableIPv4 {
			return invalid("subnet %s in a network without IPv4", sub.Subnet)
		}
		n.IPv6 = n.IPv6 || sub.Subnet.Addr().Is6()
		n.Subnets = append(n.Subnets, sub)
	}
	if !n.IPv4 && !n.IPv6 {
		return invalid("neither IPv4 nor IPv6")
	}
	return n, validOptions(n.Options)
}

func validOptions(options map[string]string) error {
	for name, value := range options {
		var err error
		switch name {
		case OptionBridgeName:
			err = validInterface(value)
		case OptionMasquerade, OptionICC:
			_, err = strconv.ParseBool(value)
		case OptionHostIP:
			if value != "" {
				_, err = netip.ParseAddr(value)
			}
		case OptionMTU:
			var mtu int
			if mtu, err = strconv.Atoi(value); err == nil && (mtu < 68 || mtu > 65535) {
				err = errors.New("want 68 to 65535 bytes")
			}
		default:
			if strings.HasPrefix(name, "com.docker.") {
				err = errors.New("not supported")
			}
		}
		if err != nil {
			return fmt.Errorf("option %s=%s: %w: %w", name, value, err, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// claimNetwork completes n with what must not clash with other networks, and enters it.
func (c *Controller) claimNetwork(n Network, routed []route) (*lan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.Bridge == "" {
		n.Bridge = c.names.networkBridge(n.ID)
	}
	for _, other := range c.networks {
		if other.record.Name == n.Name {
			return nil, fmt.Errorf("a network of that name is already there (%.12s): %w", other.record.ID, errdefs.ErrAlreadyExists)
		}
		if other.record.Bridge == n.Bridge {
			return nil, fmt.Errorf("network %s has interface %s: %w", other.record.Name, n.Bridge, errdefs.ErrConflict)
		}
	}
	if err := c.chooseSubnets(&n, routed); err != nil {
		return nil, err
	}
	l := newLAN(n)
	c.networks[n.ID] = l
	return l, nil
}

// chooseSubnets adds the subnets that n lacks, and checks those that it names. It needs mu.
func (c *Controller) chooseSubnets(n *Network, routed []route) error {
	var used []netip.Prefix
	for _, r := range routed {
		used = append(used, r.to)
	}
	for _, s := range n.Subnets {
		for _, other := range c.networks {
			for _, o := range other.record.Subnets {
				if o.Subnet.Overlaps(s.Subnet) {
					return fmt.Errorf("subnet %s overlaps %s of network %s: %w", s.Subnet, o.Subnet, other.record.Name, errdefs.ErrConflict)
				}
			}
		}
		for _, r := range used {
			if r.Overlaps(s.Subnet) {
				return fmt.Errorf("subnet %s overlaps %s, which this host routes already: %w", s.Subnet, r, errdefs.ErrConflict)
			}
		}
	}
	for _, other := range c.networks {
		for _, o := range other.record.Subnets {
			used = append(used, o.Subnet)
		}
	}
	for _, s := range n.Subnets {
		used = append(used, s.Subnet)
	}
	add := func(p netip.Prefix) error {
		s, err := Subnet{Subnet: p}.complete()
		n.Subnets = append(n.Subnets, s)
		return err
	}
	if _, has := n.subnet(false); n.IPv4 && !has {
		p, err := cutSubnet(c.opts.Pools, used, c.names.tag)
		if err != nil {
			return err
		}
		if err := add(p); err != nil {
			return err
		}
	}
	if _, has := n.subnet(true); n.IPv6 && !has {
		if err := add(localSubnet6(c.names.tag + n.ID)); err != nil {
			return err
		}
	}
	slices.SortFunc(n.Subnets, func(a, b Subnet) int { return cmp.Compare(a.Subnet.Addr().BitLen(), b.Subnet.Addr().BitLen()) })
	return nil
}

// Get finds a network by its name, its id, or a beginning of its id that no other has. Errors: not
// found, invalid argument (ambiguous).
func (c *Controller) Get(ref string) (Network, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := c.find(ref)
	if err != nil {
		return Network{}, err
	}
	return l.record, nil
}

// find is Get with mu held.
func (c *Controller) find(ref string) (*lan, error) {
	if l := c.networks[ref]; l != nil {
		return l, nil
	}
	var begins []*lan
	for id, l := range c.networks {
		if l.record.Name == ref {
			return l, nil
		}
		if ref != "" && strings.HasPrefix(id, ref) {
			begins = append(begins, l)
		}
	}
	switch len(begins) {
	case 0:
		return nil, fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
	case 1:
		return begins[0], nil
	}
	return nil, fmt.Errorf("network %s is ambiguous: %d ids begin so: %w", ref, len(begins), errdefs.ErrInvalidArgument)
}

// List returns all networks, the predefined ones too, by name.
func (c *Controller) List() []Network {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Network
	for _, l := range c.networks {
		all = append(all, l.record)
	}
	slices.SortFunc(all, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Remove removes a network. Errors: not found, permission denied (predefined), conflict (containers
// are attached).
func (c *Controller) Remove(ctx context.Context, ref string) error {
	end, err := c.begin()
	if err != nil {
		return err
	}
	defer end()
	c.mu.Lock()
	l, err := c.find(ref)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if l.record.Predefined() {
		return fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", l.record.Name, errdefs.ErrPermissionDenied)
	}
	return c.discard(l)
}

// discard removes a network that nobody uses, or what there is of it: first from what can be found,
// then its record, then what it has on the host.
func (c *Controller) discard(l *lan) error {
	if err := c.release(l); err != nil {
		return err
	}
	l.up.Lock()
	defer l.up.Unlock()
	l.removed = true
	if err := os.Remove(c.recordPath(l.record.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(atomicfile.SyncDir(c.records), c.removeBridge(l), c.settleForwarding())
}

func (c *Controller) release(l *lan) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.users > 0 {
		return fmt.Errorf("network %s has active endpoints (%s): %w", l.record.Name, strings.Join(c.userNames(l), ", "), errdefs.ErrConflict)
	}
	delete(c.networks, l.record.ID)
	return nil
}

// userNames returns the names of the containers in l. It needs mu.
func (c *Controller) userNames(l *lan) []string {
	var found []string
	for _, a := range c.attached {
		for _, e := range a.Endpoints {
			if e.NetworkID == l.record.ID {
				found = append(found, cmp.Or(a.Name, a.ContainerID))
			}
		}
	}
	slices.Sort(found)
	return found
}

func (c *Controller) recordPath(id string) string { return filepath.Join(c.records, id) }

// loadNetworks reads the records and adds the predefined networks. A damaged record is set aside and
// named in the log: it damages one network.
func (c *Controller) loadNetworks() error {
	entries, err := os.ReadDir(c.records)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !idRule.MatchString(e.Name()) {
			continue // set aside, or a half-written one
		}
		var n Network
		path := c.recordPath(e.Name())
		if err := atomicfile.ReadRecord(path, &n); errors.Is(err, atomicfile.ErrDamaged) {
			c.log.Error("a network's record is damaged and was set aside", "path", path+".damaged", "error", err)
			if err := os.Rename(path, path+".damaged"); err != nil {
				return err
			}
			continue
		} else if err != nil {
			return err
		}
		c.networks[n.ID] = newLAN(n)
	}
	return c.loadPredefined()
}

var idRule = regexp.MustCompile(`^[0-9a-f]{64}$`)

// loadPredefined adds the networks that are always there. Their ids derive from the roots. The
// default one's subnet is kept while the machine is up, unless the host routes it elsewhere meanwhile
// and nothing is attached.
func (c *Controller) loadPredefined() error {
	for name, driver := range map[string]string{Host: DriverHost, None: DriverNull} {
		n := c.predefined(name, driver)
		c.networks[n.ID] = newLAN(n)
	}
	n, err := c.defaultNetwork()
	if err != nil {
		return fmt.Errorf("choose the default network's subnet: %w", err)
	}
	c.networks[n.ID] = newLAN(n)
	return nil
}

func (c *Controller) predefined(name, driver string) Network {
	return Network{
		ID: hexHash("berth predefined network " + name + " " + c.names.tag + " " + c.records), Name: name, Driver: driver,
		Created: time.Now().UTC(), Labels: map[string]string{}, Options: map[string]string{},
	}
}

func (c *Controller) defaultNetworkID() string { return c.predefined(DefaultBridge, DriverBridge).ID }

func (c *Controller) defaultNetwork() (Network, error) {
	path := filepath.Join(c.state, "default")
	var old Network
	switch err := atomicfile.ReadRecord(path, &old); {
	case err == nil && c.keepDefault(old):
		return old, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, atomicfile.ErrDamaged):
		return Network{}, err
	}
	n := c.predefined(DefaultBridge, DriverBridge)
	n.Bridge, n.IPv4, n.IPv6 = c.names.bridge, true, c.opts.Subnet6.IsValid()
	for _, p := range []netip.Prefix{c.opts.Subnet, c.opts.Subnet6} {
		if !p.IsValid() {
			continue
		}
		s := Subnet{Subnet: p}
		if p.Addr() != p.Masked().Addr() {
			s.Gateway = p.Addr()
		}
		s, err := s.complete()
		if err != nil {
			return Network{}, err
		}
		n.Subnets = append(n.Subnets, s)
	}
	routed, err := c.foreignRoutes(n.Bridge)
	if err != nil {
		return Network{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.chooseSubnets(&n, routed); err != nil {
		return Network{}, err
	}
	return n, atomicfile.WriteRecord(path, n, atomicfile.Volatile)
}

// keepDefault reports whether the default network can stay as an engine before this one had it.
func (c *Controller) keepDefault(old Network) bool {
	if entries, err := os.ReadDir(c.containersDir()); err == nil && len(entries) > 0 {
		return true // perhaps one of them lives
	}
	if old.Bridge != c.names.bridge {
		return false
	}
	for v6, want := range map[bool]netip.Prefix{false: c.opts.Subnet, true: c.opts.Subnet6} {
		s, has := old.subnet(v6)
		if want.IsValid() && (!has || s.Subnet != want.Masked()) || has && v6 && !want.IsValid() {
			return false
		}
	}
	routed, err := c.foreignRoutes(old.Bridge)
	if err != nil {
		return false
	}
	for _, r := range routed {
		for _, s := range old.Subnets {
			if r.to.Overlaps(s.Subnet) {
				return false
			}
		}
	}
	return true
}

// foreignRoutes returns the host's routes that don't go through the bridge.
func (c *Controller) foreignRoutes(bridge string) ([]route, error) {
	routed, err := c.host.routes()
	if err != nil {
		return nil, err
	}
	if index, err := c.host.index(bridge); err == nil {
		routed = slices.DeleteFunc(routed, func(r route) bool { return r.linkIndex == index })
	}
	return routed, nil
}
