package api

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/container/bundle"
	"github.com/berth-engine/berth/engine"
	berthnet "github.com/berth-engine/berth/network"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
)

// driver is the name of the storage that `info` and inspect show.
const driver = "berth"

func (s *Server) inspectContainer(w http.ResponseWriter, r *http.Request) error {
	c, err := s.engine.Inspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	out, err := inspected(c)
	if err != nil {
		return err
	}
	if truth(r.URL.Query(), "size", false) {
		written, whole, err := s.engine.Sizes(r.Context(), c.ID)
		if err != nil {
			return err
		}
		out.SizeRw, out.SizeRootFs = &written, &whole
	}
	if versionOf(r).before(52) {
		return answer(w, http.StatusOK, inspectedBefore52(c, out))
	}
	return answer(w, http.StatusOK, out)
}

// inspected is a container as the newest API has it.
func inspected(c engine.Container) (dockercontainer.InspectResponse, error) {
	cfg, host, err := echo(c)
	if err != nil {
		return dockercontainer.InspectResponse{}, err
	}
	args := c.Config.Process.Args()
	out := dockercontainer.InspectResponse{
		ID: c.ID, Created: c.Created.Format(time.RFC3339Nano), Path: args[0], Args: args[1:], State: state(c.State), Image: c.Config.ImageID.String(),
		ResolvConfPath: c.ResolvConfPath, HostnamePath: c.HostnamePath, HostsPath: c.HostsPath, LogPath: c.LogPath,
		Name: "/" + c.Name, RestartCount: c.State.RestartCount, Driver: driver, Platform: "linux", AppArmorProfile: c.Config.Isolation.AppArmor,
		ExecIDs: c.Execs, HostConfig: host, Config: cfg, Mounts: mountPoints(c), NetworkSettings: networkSettings(c),
		GraphDriver: &storage.DriverData{Name: driver, Data: map[string]string{"UpperDir": c.UpperDir + "/upper"}},
	}
	return out, nil
}

// echo is what was asked for, with what the image and the engine filled in.
func echo(c engine.Container) (*dockercontainer.Config, *dockercontainer.HostConfig, error) {
	var in dockercontainer.CreateRequest
	if len(c.Config.Asked) > 0 {
		if err := json.Unmarshal(c.Config.Asked, &in); err != nil {
			return nil, nil, fmt.Errorf("the recorded request of container %s: %w", c.Name, err)
		}
	}
	if in.Config == nil {
		in.Config = &dockercontainer.Config{}
	}
	if in.HostConfig == nil {
		in.HostConfig = &dockercontainer.HostConfig{}
	}
	cfg, host := in.Config, in.HostConfig
	p, n := c.Config.Process, c.Config.Network
	cfg.Hostname, cfg.Domainname, cfg.User, cfg.Env, cfg.WorkingDir = n.Hostname, n.Domainname, p.User, p.Env, p.WorkingDir
	cfg.Cmd, cfg.Entrypoint, cfg.Labels, cfg.StopSignal, cfg.Image = p.Cmd, p.Entrypoint, c.Config.Labels, p.StopSignal, c.Config.Image
	if len(n.Exposed) > 0 {
		cfg.ExposedPorts = network.PortSet{}
		for _, e := range n.Exposed {
			if port, ok := network.PortFrom(e.Number, network.IPProtocol(e.Protocol)); ok {
				cfg.ExposedPorts[port] = struct{}{}
			}
		}
	}
	if h := c.Config.Healthcheck; h != nil {
		cfg.Healthcheck = &dockercontainer.HealthConfig{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	host.NetworkMode = dockercontainer.NetworkMode(n.Mode)
	host.MaskedPaths, host.ReadonlyPaths = bundle.SystemPaths(c.Config.Isolation)
	if host.LogConfig.Type == "" {
		host.LogConfig.Type = c.Config.Log.Driver
	}
	if host.LogConfig.Config == nil {
		host.LogConfig.Config = map[string]string{}
	}
	if host.Runtime == "" {
		host.Runtime = defaultRuntime
	}
	if host.ShmSize == 0 {
		host.ShmSize = 64 << 20
	}
	if host.IpcMode == "" {
		host.IpcMode = dockercontainer.IPCModePrivate
	}
	if host.CgroupnsMode == "" {
		host.CgroupnsMode = dockercontainer.CgroupnsModePrivate
	}
	if host.RestartPolicy.Name == "" {
		host.RestartPolicy.Name = dockercontainer.RestartPolicyDisabled
	}
	return cfg, host, nil
}

// stamp is a time as Docker's inspect has it; none is the year 1.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func state(s container.State) *dockercontainer.State {
	return &dockercontainer.State{
		Status:  dockercontainer.ContainerState(s.Status),
		Running: s.Status.Active() || s.Status == container.Restarting, Paused: s.Status == container.Paused,
		Restarting: s.Status == container.Restarting, OOMKilled: s.OOMKilled, Dead: s.Status == container.Dead,
		Pid: s.Pid, ExitCode: s.ExitCode, Error: s.Error, StartedAt: stamp(s.StartedAt), FinishedAt: stamp(s.FinishedAt), Health: health(s.Health),
	}
}

func health(h *container.Health) *dockercontainer.Health {
	if h == nil {
		return nil
	}
	out := &dockercontainer.Health{Status: dockercontainer.HealthStatus(h.Status), FailingStreak: h.FailingStreak}
	for _, p := range h.Log {
		out.Log = append(out.Log, &dockercontainer.HealthcheckResult{Start: p.Start, End: p.End, ExitCode: p.ExitCode, Output: p.Output})
	}
	return out
}

func mountPoints(c engine.Container) []dockercontainer.MountPoint {
	all := []dockercontainer.MountPoint{}
	for _, m := range c.Config.Mounts {
		p := dockercontainer.MountPoint{Type: mount.Type(m.Kind), Source: m.Source, Destination: m.Target, RW: !m.ReadOnly}
		switch m.Kind {
		case container.VolumeMount:
			p.Name, p.Driver, p.Mode = m.Source, "local", "z"
			p.Source = c.VolumePaths[m.Source]
		case container.BindMount:
			if p.Propagation = mount.Propagation(m.Propagation); p.Propagation == "" {
				p.Propagation = mount.PropagationRPrivate
			}
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b dockercontainer.MountPoint) int { return strings.Compare(a.Destination, b.Destination) })
	return all
}

func networkSettings(c engine.Container) *dockercontainer.NetworkSettings {
	out := &dockercontainer.NetworkSettings{Ports: ports(c), Networks: map[string]*network.EndpointSettings{}}
	if len(c.Attached.Endpoints) > 0 || c.State.Status.Active() {
		out.SandboxID = c.ID
		if c.State.Pid != 0 {
			out.SandboxKey = fmt.Sprintf("/proc/%d/ns/net", c.State.Pid)
		}
	}
	for _, ep := range c.Attached.Endpoints {
		out.Networks[ep.NetworkName] = endpoint(ep)
	}
	for _, asked := range c.Config.Network.Endpoints {
		attached := out.Networks[asked.Network]
		if attached == nil && len(c.Attached.Endpoints) == 0 { // it is not running
			attached = &network.EndpointSettings{Aliases: asked.Aliases}
			out.Networks[asked.Network] = attached
		}
		if attached != nil {
			attached.IPAMConfig = askedAddresses(asked)
		}
	}
	return out
}

func endpoint(ep berthnet.Endpoint) *network.EndpointSettings {
	return &network.EndpointSettings{
		Aliases: ep.Aliases, NetworkID: ep.NetworkID, EndpointID: ep.ID, DNSNames: ep.Names, MacAddress: network.HardwareAddr(net.HardwareAddr(ep.MAC)),
		Gateway: ep.Gateway4, IPAddress: addr(ep.IPv4), IPPrefixLen: bits(ep.IPv4),
		IPv6Gateway: ep.Gateway6, GlobalIPv6Address: addr(ep.IPv6), GlobalIPv6PrefixLen: bits(ep.IPv6),
	}
}

// askedAddresses are those that the user chose; nil where there are none. A client that makes a container anew
// from what inspect says sends them again.
func askedAddresses(asked container.Endpoint) *network.EndpointIPAMConfig {
	var c network.EndpointIPAMConfig
	for to, text := range map[*netip.Addr]string{&c.IPv4Address: asked.IPv4, &c.IPv6Address: asked.IPv6} {
		if a, err := netip.ParseAddr(text); err == nil {
			*to = a
		}
	}
	if !c.IPv4Address.IsValid() && !c.IPv6Address.IsValid() {
		return nil
	}
	return &c
}

func addr(p netip.Prefix) netip.Addr { return p.Addr() }

func bits(p netip.Prefix) int {
	if !p.IsValid() {
		return 0
	}
	return p.Bits()
}

func ports(c engine.Container) network.PortMap {
	all := network.PortMap{}
	if !c.State.Status.Active() {
		return all
	}
	for _, e := range c.Config.Network.Exposed {
		if p, ok := network.PortFrom(e.Number, network.IPProtocol(e.Protocol)); ok {
			all[p] = nil
		}
	}
	for _, p := range c.Attached.Ports {
		if port, ok := network.PortFrom(p.ContainerPort, network.IPProtocol(p.Proto)); ok {
			all[port] = append(all[port], network.PortBinding{HostIP: p.HostIP, HostPort: fmt.Sprint(p.HostPort)})
		}
	}
	return all
}

// before52 is what the API had before 1.52: the default network's values, once more at the top.
type before52 struct {
	dockercontainer.InspectResponse
	NetworkSettings settingsBefore52
}

type settingsBefore52 struct {
	Bridge                 string
	SandboxID, SandboxKey  string
	Ports                  network.PortMap
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]*network.EndpointSettings
}

func inspectedBefore52(c engine.Container, out dockercontainer.InspectResponse) before52 {
	n := out.NetworkSettings
	s := settingsBefore52{SandboxID: n.SandboxID, SandboxKey: n.SandboxKey, Ports: n.Ports, Networks: n.Networks}
	for _, ep := range c.Attached.Endpoints {
		if ep.NetworkName != berthnet.DefaultBridge {
			continue
		}
		s.EndpointID, s.MacAddress, s.IPPrefixLen = ep.ID, net.HardwareAddr(ep.MAC).String(), bits(ep.IPv4)
		s.Gateway, s.IPAddress = text(ep.Gateway4), text(addr(ep.IPv4))
		s.IPv6Gateway, s.GlobalIPv6Address, s.GlobalIPv6PrefixLen = text(ep.Gateway6), text(addr(ep.IPv6)), bits(ep.IPv6)
	}
	return before52{out, s}
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
