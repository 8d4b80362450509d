package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/network"
	"github.com/containerd/errdefs"
)

// attach makes the container's network as its configuration wants it.
func (e *Engine) attach(ctx context.Context, c *instance) (*network.Sandbox, error) {
	cfg := c.Config()
	if _, joins := container.Joins(cfg.Network.Mode); joins {
		return &network.Sandbox{ContainerID: c.ID}, nil
	}
	req := network.Request{ContainerID: c.ID, Name: c.Name(), Hostname: cfg.Network.Hostname}
	endpoints := cfg.Network.Endpoints
	if len(endpoints) == 0 {
		endpoints = []container.Endpoint{{Network: cfg.Network.Mode}}
	}
	for _, ep := range endpoints {
		r := network.EndpointRequest{Network: ep.Network, Aliases: ep.Aliases}
		if r.Network == "" || r.Network == "default" {
			r.Network = network.DefaultBridge
		}
		var err error
		if r.IPv4, err = address(ep.IPv4); err != nil {
			return nil, err
		}
		if r.IPv6, err = address(ep.IPv6); err != nil {
			return nil, err
		}
		if ep.MAC != "" {
			if r.MAC, err = net.ParseMAC(ep.MAC); err != nil {
				return nil, fmt.Errorf("invalid MAC address %q: %w", ep.MAC, errdefs.ErrInvalidArgument)
			}
		}
		req.Endpoints = append(req.Endpoints, r)
	}
	if cfg.Network.Mode != network.Host && cfg.Network.Mode != network.None {
		ports, err := bindings(cfg.Network)
		if err != nil {
			return nil, err
		}
		req.Ports = ports
	}
	return e.networks.Attach(ctx, req)
}

func address(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("invalid IP address: %s: %w", s, errdefs.ErrInvalidArgument)
	}
	return a, nil
}

// bindings are the published ports, and with PublishAll a free one for every exposed port.
func bindings(n container.Network) ([]network.PortBinding, error) {
	var all []network.PortBinding
	for _, p := range n.Published {
		ip, err := address(p.HostIP)
		if err != nil {
			return nil, err
		}
		all = append(all, network.PortBinding{HostIP: ip, HostPort: p.HostPort, HostPortEnd: p.HostPortEnd, ContainerPort: p.Number, Proto: p.Protocol})
	}
	if n.PublishAll {
		for _, p := range n.Exposed {
			published := slices.ContainsFunc(n.Published, func(q container.Publish) bool { return q.Port == p })
			if !published {
				all = append(all, network.PortBinding{ContainerPort: p.Number, Proto: p.Protocol})
			}
		}
	}
	return all, nil
}

func (e *Engine) hostname(c *instance) string {
	cfg := c.Config().Network
	if cfg.Hostname != "" {
		return cfg.Hostname
	}
	if other, joins := container.Joins(cfg.Mode); joins {
		if o, err := e.find(other); err == nil {
			if _, too := container.Joins(o.Config().Network.Mode); !too { // it may be c
				return e.hostname(o)
			}
		}
	}
	if cfg.Mode == network.Host || c.Config().Isolation.UTSMode == "host" {
		if name, err := os.Hostname(); err == nil {
			return name
		}
	}
	return container.ShortID(c.ID)
}

// The files that the engine writes for a container and mounts over the rootfs's own.
const (
	hostsFile      = "hosts"
	hostnameFile   = "hostname"
	resolvConfFile = "resolv.conf"
)

// writeFiles writes hosts, hostname and resolv.conf into the container's run-time directory.
func (e *Engine) writeFiles(c *instance) error {
	if _, joins := container.Joins(c.Config().Network.Mode); joins {
		return nil // the other container's are mounted
	}
	resolv, err := e.resolvConf(c)
	if err != nil {
		return err
	}
	hosts, err := e.hosts(c)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		hostsFile: hosts, resolvConfFile: resolv, hostnameFile: []byte(e.hostname(c) + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(e.store.ExecDir(c.ID), name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// hosts is what /etc/hosts says.
func (e *Engine) hosts(c *instance) ([]byte, error) {
	cfg := c.Config().Network
	var b bytes.Buffer
	if cfg.Mode == network.Host {
		own, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		b.Write(own)
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	for _, entry := range cfg.ExtraHosts {
		name, addr, err := ParseHost(entry)
		if err != nil {
			return nil, err
		}
		if addr == "host-gateway" {
			gateway, err := e.hostGateway(c)
			if err != nil {
				return nil, err
			}
			addr = gateway
		}
		if _, err := netip.ParseAddr(addr); err != nil {
			return nil, fmt.Errorf("invalid IP address in add-host: %q: %w", addr, errdefs.ErrInvalidArgument)
		}
		fmt.Fprintf(&b, "%s\t%s\n", addr, name)
	}
	if cfg.Mode != network.Host && cfg.Mode != network.None {
		entries, err := e.networks.Hosts(c.ID)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if cfg.Domainname != "" && len(entry.Names) > 0 && entry.Names[0] == cfg.Hostname {
				entry.Names = append([]string{cfg.Hostname + "." + cfg.Domainname}, entry.Names...)
			}
			fmt.Fprintf(&b, "%s\t%s\n", entry.Addr, strings.Join(entry.Names, " "))
		}
	}
	return b.Bytes(), nil
}

// hostGateway is the address under which a container reaches the host.
func (e *Engine) hostGateway(c *instance) (string, error) {
	n, err := e.networks.Get(network.DefaultBridge)
	if err != nil {
		return "", err
	}
	if attached, err := e.networks.Lookup(c.ID); err == nil && len(attached.Endpoints) > 0 && attached.Endpoints[0].Gateway4.IsValid() {
		return attached.Endpoints[0].Gateway4.String(), nil
	}
	for _, s := range n.Subnets {
		return s.Gateway.String(), nil
	}
	return "", fmt.Errorf("host-gateway: the default network has no gateway: %w", errdefs.ErrFailedPrecondition)
}

// rewriteHosts writes the hosts files of running containers anew; the mounted file keeps its inode.
func (e *Engine) rewriteHosts(ids []string) {
	for _, id := range ids {
		c, err := e.find(id)
		if err != nil {
			continue
		}
		if _, err := c.running(); err != nil {
			continue
		}
		hosts, err := e.hosts(c)
		if err == nil {
			err = os.WriteFile(filepath.Join(e.store.ExecDir(id), hostsFile), hosts, 0o644)
		}
		if err != nil {
			e.log.Warn("the hosts file of a container could not be renewed", "container", id, "error", err)
		}
	}
}

// Where the host's resolvers are found: the second where the first only names a local stub
// (systemd-resolved), which a container can't reach.
var resolvConfs = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// publicResolvers are used where the host names none that a container can reach, as Docker does.
var publicResolvers = []string{"8.8.8.8", "8.8.4.4"}

// resolvConf is what /etc/resolv.conf says: the host's, without resolvers on the host's loopback (a
// container has a loopback of its own), and with what the user said in its place.
func (e *Engine) resolvConf(c *instance) ([]byte, error) {
	cfg := c.Config().Network
	var host []byte
	for _, path := range resolvConfs {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		host = b
		if cfg.Mode == network.Host || len(parseResolv(b).reachable()) > 0 {
			break
		}
	}
	if cfg.Mode == network.Host && len(cfg.DNS)+len(cfg.DNSSearch)+len(cfg.DNSOptions) == 0 {
		return host, nil
	}
	r := parseResolv(host)
	if cfg.Mode != network.Host {
		r.servers = r.reachable()
	}
	if len(cfg.DNS) > 0 {
		r.servers = cfg.DNS
	}
	if len(cfg.DNSSearch) > 0 {
		r.search = cfg.DNSSearch
		if slices.Equal(r.search, []string{"."}) {
			r.search = nil
		}
	}
	if len(cfg.DNSOptions) > 0 {
		r.options = cfg.DNSOptions
	}
	if len(r.servers) == 0 && cfg.Mode != network.None {
		r.servers = publicResolvers
	}
	return r.bytes(), nil
}

// resolv is a resolv.conf(5).
type resolv struct{ servers, search, options []string }

func parseResolv(b []byte) resolv {
	var r resolv
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			r.servers = append(r.servers, fields[1])
		case "search", "domain":
			r.search = fields[1:]
		case "options":
			r.options = append(r.options, fields[1:]...)
		}
	}
	return r
}

// reachable leaves out resolvers on loopback.
func (r resolv) reachable() []string {
	return slices.DeleteFunc(slices.Clone(r.servers), func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err != nil || a.IsLoopback()
	})
}

func (r resolv) bytes() []byte {
	var b bytes.Buffer
	for _, s := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.search, " "))
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.Bytes()
}
