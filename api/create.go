package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/container/bundle"
	"github.com/berth-engine/berth/engine"
	"github.com/berth-engine/berth/volume"
	"github.com/containerd/errdefs"
	units "github.com/docker/go-units"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

func (s *Server) createContainer(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, bodyMax))
	if err != nil {
		return fmt.Errorf("read the request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	q := r.URL.Query()
	req, err := s.createRequest(body, q.Get("name"), q.Get("platform"))
	if err != nil {
		return err
	}
	id, warnings, err := s.engine.Create(r.Context(), req)
	if err != nil {
		return err
	}
	if warnings == nil {
		warnings = []string{}
	}
	return answer(w, http.StatusCreated, dockercontainer.CreateResponse{ID: id, Warnings: warnings})
}

// older are fields of the request that the newest API has no more.
type older struct {
	MacAddress string // of the only network (before 1.44)
}

// createRequest reads the body of a create.
func (s *Server) createRequest(body []byte, name, forPlatform string) (engine.CreateRequest, error) {
	var (
		in  dockercontainer.CreateRequest
		old older
	)
	if err := unmarshal(body, &in); err != nil {
		return engine.CreateRequest{}, err
	}
	if err := unmarshal(body, &old); err != nil {
		return engine.CreateRequest{}, err
	}
	if in.Config == nil {
		return engine.CreateRequest{}, fmt.Errorf("config cannot be empty in order to create a container: %w", errdefs.ErrInvalidArgument)
	}
	if in.HostConfig == nil {
		in.HostConfig = &dockercontainer.HostConfig{}
	}
	p, err := platform(forPlatform)
	if err != nil {
		return engine.CreateRequest{}, err
	}
	cfg, err := s.config(in, old)
	if err != nil {
		return engine.CreateRequest{}, err
	}
	if cfg.Asked, err = asked(in); err != nil {
		return engine.CreateRequest{}, err
	}
	return engine.CreateRequest{Name: name, Platform: p, Config: cfg}, nil
}

// asked is the request as inspect echoes it.
func asked(in dockercontainer.CreateRequest) (json.RawMessage, error) { return json.Marshal(in) }

// config says in the domain's words what a request asks for.
func (s *Server) config(in dockercontainer.CreateRequest, old older) (container.Config, error) {
	h := in.HostConfig
	if err := unsupported(in); err != nil {
		return container.Config{}, err
	}
	c := container.Config{
		Image:      in.Image,
		Labels:     in.Labels,
		AutoRemove: h.AutoRemove,
		Restart:    container.RestartPolicy{Name: string(h.RestartPolicy.Name), MaxRetries: h.RestartPolicy.MaximumRetryCount},
		Process:    process(in),
		Resources:  limits(h),
	}
	if hc := in.Healthcheck; hc != nil {
		c.Healthcheck = &container.Healthcheck{
			Test: hc.Test, Interval: hc.Interval, Timeout: hc.Timeout, StartPeriod: hc.StartPeriod, StartInterval: hc.StartInterval, Retries: hc.Retries,
		}
	}
	var err error
	if c.Log, err = logConfig(h.LogConfig); err != nil {
		return c, err
	}
	if c.Isolation, err = isolation(h); err != nil {
		return c, err
	}
	if c.Mounts, err = s.mounts(in); err != nil {
		return c, err
	}
	c.Network, err = networkOf(in, old)
	return c, err
}

// unsupported refuses what would otherwise be left out in silence.
func unsupported(in dockercontainer.CreateRequest) error {
	h := in.HostConfig
	linkLocal, priority := false, false
	if in.NetworkingConfig != nil {
		for _, e := range in.NetworkingConfig.EndpointsConfig {
			linkLocal = linkLocal || e != nil && e.IPAMConfig != nil && len(e.IPAMConfig.LinkLocalIPs) > 0
			priority = priority || e != nil && e.GwPriority != 0
		}
	}
	if len(h.Links) > 0 {
		return fmt.Errorf("berth doesn't support links (--link) yet: put the containers into a network of their own, and use their names: %w", errdefs.ErrInvalidArgument)
	}
	for _, u := range []struct {
		asked bool
		what  string
	}{
		{len(h.DeviceRequests) > 0, "device requests (--gpus)"},
		{h.VolumeDriver != "" && h.VolumeDriver != "local", "volume driver " + h.VolumeDriver},
		{h.UsernsMode != "" && h.UsernsMode != "host", "user namespace mode " + string(h.UsernsMode)},
		{len(h.StorageOpt) > 0, "storage options (--storage-opt)"},
		{h.CPURealtimePeriod != 0 || h.CPURealtimeRuntime != 0, "realtime CPU limits (--cpu-rt-period, --cpu-rt-runtime)"},
		{len(h.BlkioWeightDevice)+len(h.BlkioDeviceReadBps)+len(h.BlkioDeviceWriteBps)+len(h.BlkioDeviceReadIOps)+len(h.BlkioDeviceWriteIOps) > 0, "block IO limits of single devices"},
		{!h.Isolation.IsDefault(), "isolation technology " + string(h.Isolation)},
		{h.Runtime != "" && h.Runtime != defaultRuntime, "runtime " + h.Runtime},
		{h.Umask != nil, "umask"},
		{len(h.Annotations) > 0, "annotations (--annotation)"},
		{linkLocal, "link-local addresses (--link-local-ip)"},
		{priority, "gateway priorities (gw-priority)"},
	} {
		if u.asked {
			return fmt.Errorf("berth doesn't support %s yet: %w", u.what, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// defaultRuntime is the name of berth-runtime among the runtimes.
const defaultRuntime = "berth-runtime"

func process(in dockercontainer.CreateRequest) container.Process {
	h := in.HostConfig
	p := container.Process{
		Entrypoint: in.Entrypoint, Cmd: in.Cmd, Env: in.Env, User: in.User, Groups: h.GroupAdd, WorkingDir: in.WorkingDir,
		TTY: in.Tty, OpenStdin: in.OpenStdin, StdinOnce: in.StdinOnce,
		AttachStdin: in.AttachStdin, AttachStdout: in.AttachStdout, AttachStderr: in.AttachStderr,
		StopSignal: in.StopSignal, StopTimeout: in.StopTimeout, OOMScoreAdj: h.OomScoreAdj,
		ConsoleHeight: uint16(h.ConsoleSize[0]), ConsoleWidth: uint16(h.ConsoleSize[1]),
	}
	if h.Init != nil {
		p.Init = *h.Init
	}
	for _, u := range h.Ulimits {
		p.Rlimits = append(p.Rlimits, container.Rlimit{Name: u.Name, Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	return p
}

func limits(h *dockercontainer.HostConfig) container.Resources {
	r := container.Resources{
		Memory: h.Memory, MemorySwap: h.MemorySwap, MemoryReservation: h.MemoryReservation, MemorySwappiness: h.MemorySwappiness,
		NanoCPUs: h.NanoCPUs, CPUShares: h.CPUShares, CPUPeriod: h.CPUPeriod, CPUQuota: h.CPUQuota, CpusetCPUs: h.CpusetCpus, CpusetMems: h.CpusetMems,
		BlkioWeight: h.BlkioWeight, ShmSize: h.ShmSize, CgroupParent: h.CgroupParent,
	}
	if h.MemorySwappiness != nil && *h.MemorySwappiness == -1 { // the default, as old clients say it
		r.MemorySwappiness = nil
	}
	if h.OomKillDisable != nil {
		r.OOMKillDisable = *h.OomKillDisable
	}
	if h.PidsLimit != nil {
		r.PidsLimit = *h.PidsLimit
	}
	return r
}

func logConfig(l dockercontainer.LogConfig) (container.LogConfig, error) {
	out := container.LogConfig{Driver: l.Type, Options: l.Config}
	switch l.Type {
	case "":
		out.Driver = "json-file"
	case "json-file", "none", "local":
	default:
		return out, fmt.Errorf("berth doesn't have the logging driver %q yet, only json-file, local and none: %w", l.Type, errdefs.ErrInvalidArgument)
	}
	for _, name := range sorted(l.Config) {
		value := l.Config[name]
		var err error
		switch name {
		case "max-size":
			if value == "-1" {
				out.MaxSize = -1
				break
			}
			out.MaxSize, err = units.FromHumanSize(value)
		case "max-file":
			out.MaxFiles, err = strconv.Atoi(value)
			if err == nil && out.MaxFiles < 1 {
				err = fmt.Errorf("max-file cannot be less than 1")
			}
		case "mode": // the log never makes a container wait
			if value != "blocking" && value != "non-blocking" {
				err = fmt.Errorf("it can be blocking or non-blocking")
			}
		case "compress":
			if compress, bad := strconv.ParseBool(value); bad != nil {
				err = fmt.Errorf("it is neither true nor false")
			} else if compress {
				err = fmt.Errorf("berth doesn't compress logs yet")
			}
		case "tag", "labels", "labels-regex", "env", "env-regex", "max-buffer-size":
			err = fmt.Errorf("berth doesn't have this option yet")
		default:
			err = fmt.Errorf("unknown log opt for %s log driver", out.Driver)
		}
		if err != nil {
			return out, fmt.Errorf("invalid log option %s=%s: %w: %w", name, value, err, errdefs.ErrInvalidArgument)
		}
	}
	return out, nil
}

func isolation(h *dockercontainer.HostConfig) (container.Isolation, error) {
	i := container.Isolation{
		Privileged: h.Privileged, CapAdd: h.CapAdd, CapDrop: h.CapDrop, ReadonlyRootfs: h.ReadonlyRootfs, DeviceRules: h.DeviceCgroupRules,
		Sysctls: h.Sysctls, PidMode: string(h.PidMode), IPCMode: string(h.IpcMode), UTSMode: string(h.UTSMode), CgroupNamespace: string(h.CgroupnsMode),
		Runtime: h.Runtime, MaskedPaths: h.MaskedPaths, ReadonlyPaths: h.ReadonlyPaths,
	}
	for _, d := range h.Devices {
		permissions := d.CgroupPermissions
		if permissions == "" {
			permissions = "rwm"
		}
		i.Devices = append(i.Devices, container.Device{Host: d.PathOnHost, Container: d.PathInContainer, Permissions: permissions})
	}
	for _, p := range slices.Concat(h.MaskedPaths, h.ReadonlyPaths) {
		if !path.IsAbs(p) {
			return i, fmt.Errorf("invalid MaskedPaths or ReadonlyPaths: %q is not an absolute path: %w", p, errdefs.ErrInvalidArgument)
		}
	}
	for _, m := range []struct {
		mode  string
		valid bool
		what  string
	}{
		{i.PidMode, h.PidMode.Valid() || h.PidMode == "private", "PID"}, {i.IPCMode, h.IpcMode.Valid(), "IPC"},
		{i.UTSMode, h.UTSMode.Valid(), "UTS"}, {i.CgroupNamespace, h.CgroupnsMode.Valid(), "cgroup namespace"},
	} {
		if !m.valid {
			return i, fmt.Errorf("invalid %s mode: %s: %w", m.what, m.mode, errdefs.ErrInvalidArgument)
		}
	}
	for _, o := range h.SecurityOpt {
		if err := securityOption(&i, o); err != nil {
			return i, err
		}
	}
	for _, list := range [][]string{h.CapAdd, h.CapDrop} {
		for _, c := range list {
			if _, err := bundle.CheckCapability(c); err != nil {
				return i, err
			}
		}
	}
	return i, nil
}

// securityOption reads one --security-opt (moby, parseSecurityOpt).
func securityOption(i *container.Isolation, o string) error {
	if o == "no-new-privileges" {
		i.NoNewPrivileges = true
		return nil
	}
	name, value, ok := strings.Cut(o, "=")
	if !ok {
		name, value, ok = strings.Cut(o, ":")
	}
	if !ok {
		return fmt.Errorf("invalid --security-opt: %q: it is not name=value: %w", o, errdefs.ErrInvalidArgument)
	}
	switch name {
	case "no-new-privileges":
		v, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("invalid --security-opt: %q: it wants true or false: %w", o, errdefs.ErrInvalidArgument)
		}
		i.NoNewPrivileges = v
	case "seccomp":
		if i.Seccomp = value; value == "builtin" {
			i.Seccomp = ""
		}
	case "apparmor":
		i.AppArmor = value
	case "label":
		if value != "disable" {
			return fmt.Errorf("berth doesn't set SELinux labels yet: --security-opt %s: %w", o, errdefs.ErrInvalidArgument)
		}
	case "systempaths":
		if value != "unconfined" {
			return fmt.Errorf("invalid --security-opt: %q: it can only be systempaths=unconfined: %w", o, errdefs.ErrInvalidArgument)
		}
		i.MaskedPaths, i.ReadonlyPaths = []string{}, []string{}
	case "writable-cgroups":
		return fmt.Errorf("berth doesn't support --security-opt %s yet: %w", o, errdefs.ErrInvalidArgument)
	default:
		return fmt.Errorf("invalid --security-opt: %q: there is no option %q: %w", o, name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// mounts reads binds, mounts, tmpfs, anonymous volumes, and the mounts of other containers.
func (s *Server) mounts(in dockercontainer.CreateRequest) ([]container.Mount, error) {
	var all []container.Mount
	for _, from := range in.HostConfig.VolumesFrom {
		more, err := s.volumesFrom(from)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	add := func(m container.Mount) { // what is said of this container counts more than another's
		all = slices.DeleteFunc(all, func(o container.Mount) bool {
			return path.Clean(o.Target) == path.Clean(m.Target) && len(in.HostConfig.VolumesFrom) > 0
		})
		all = append(all, m)
	}
	for _, b := range in.HostConfig.Binds {
		m, err := parseBind(b)
		if err != nil {
			return nil, err
		}
		add(m)
	}
	for _, m := range in.HostConfig.Mounts {
		parsed, err := parseMount(m)
		if err != nil {
			return nil, err
		}
		add(parsed)
	}
	for _, target := range sorted(in.HostConfig.Tmpfs) {
		add(container.Mount{Kind: container.TmpfsMount, Target: target, Options: in.HostConfig.Tmpfs[target]})
	}
	for _, target := range sorted(in.Volumes) {
		if !slices.ContainsFunc(all, func(m container.Mount) bool { return path.Clean(m.Target) == path.Clean(target) }) {
			all = append(all, container.Mount{Kind: container.VolumeMount, Target: target, Anonymous: true})
		}
	}
	return all, nil
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// volumesFrom are another container's mounts: "NAME" or "NAME:ro".
func (s *Server) volumesFrom(from string) ([]container.Mount, error) {
	name, mode, given := strings.Cut(from, ":")
	switch mode {
	case "ro", "rw", "z", "Z":
	default:
		if given {
			return nil, fmt.Errorf("invalid volume specification: '%s': invalid mode: %s: %w", from, mode, errdefs.ErrInvalidArgument)
		}
	}
	other, err := s.engine.Inspect(name)
	if err != nil {
		return nil, fmt.Errorf("--volumes-from %s: %s: %w", from, message(err), errdefs.ErrInvalidArgument)
	}
	var all []container.Mount
	for _, m := range other.Config.Mounts {
		if m.Kind == container.TmpfsMount {
			continue
		}
		m.Anonymous = false
		m.ReadOnly = m.ReadOnly || mode == "ro"
		all = append(all, m)
	}
	return all, nil
}

// bindOptions are the options of a bind, and what each is about.
var bindOptions = map[string]string{
	"ro": "access", "rw": "access", "z": "label", "Z": "label", "nocopy": "nocopy",
	"consistent": "consistency", "cached": "consistency", "delegated": "consistency",
	"private": "propagation", "rprivate": "propagation", "shared": "propagation", "rshared": "propagation", "slave": "propagation", "rslave": "propagation",
}

// parseBind reads "SOURCE:TARGET[:OPTIONS]" or "TARGET".
func parseBind(b string) (container.Mount, error) {
	bad := func(why string) (container.Mount, error) {
		return container.Mount{}, fmt.Errorf("invalid volume specification: '%s': %s: %w", b, why, errdefs.ErrInvalidArgument)
	}
	parts := strings.Split(b, ":")
	if len(parts) > 3 {
		return bad("too many colons")
	}
	if len(parts) == 1 {
		return container.Mount{Kind: container.VolumeMount, Target: b, Anonymous: true}, nil
	}
	m := container.Mount{Kind: container.BindMount, Source: parts[0], Target: parts[1], CreateHost: true}
	if m.Source == "" || m.Target == "" {
		return bad("source and destination can't be empty")
	}
	if !path.IsAbs(m.Target) {
		return bad("mount path must be absolute")
	}
	if !path.IsAbs(m.Source) {
		if err := volume.CheckName(m.Source); err != nil {
			return container.Mount{}, err
		}
		m.Kind, m.CreateHost = container.VolumeMount, false
	}
	if len(parts) == 3 {
		said := map[string]bool{} // of each kind one (moby, linuxParser.ParseMountRaw)
		for _, o := range strings.Split(parts[2], ",") {
			kind := bindOptions[o]
			if kind == "" && o != "" || said[kind] || kind == "nocopy" && m.Kind == container.BindMount || kind == "propagation" && m.Kind == container.VolumeMount {
				return bad("invalid mode: " + parts[2])
			}
			said[kind] = o != ""
			switch kind {
			case "access":
				m.ReadOnly = o == "ro"
			case "nocopy":
				m.NoCopy = true
			case "propagation":
				m.Propagation = o
			}
		}
	}
	return m, nil
}

func parseMount(m mount.Mount) (container.Mount, error) {
	out := container.Mount{Kind: string(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("invalid mount config for type %q: "+format+": %w", append(append([]any{m.Type}, args...), errdefs.ErrInvalidArgument)...)
	}
	if m.Target == "" {
		return out, bad("field Target must not be empty")
	}
	switch m.Type {
	case mount.TypeBind:
		if !path.IsAbs(m.Source) {
			return out, bad("invalid mount path: '%s' mount path must be absolute", m.Source)
		}
		if o := m.BindOptions; o != nil {
			if o.Propagation != "" && bindOptions[string(o.Propagation)] != "propagation" {
				return out, bad("invalid propagation mode: %s", o.Propagation)
			}
			out.Propagation, out.NonRec, out.CreateHost = string(o.Propagation), o.NonRecursive, o.CreateMountpoint
		}
	case mount.TypeVolume:
		if o := m.VolumeOptions; o != nil {
			out.NoCopy, out.Subpath, out.Labels = o.NoCopy, o.Subpath, o.Labels
			if o.DriverConfig != nil && (o.DriverConfig.Name != "" && o.DriverConfig.Name != "local" || len(o.DriverConfig.Options) > 0) {
				return out, bad("berth has no volume drivers or driver options yet")
			}
		}
	case mount.TypeTmpfs:
		if m.Source != "" {
			return out, bad("field Source must not be specified")
		}
		if o := m.TmpfsOptions; o != nil {
			out.Size, out.Mode = o.SizeBytes, uint32(o.Mode&os.ModePerm)
			if o.Mode&os.ModeSticky != 0 || o.Mode&0o1000 != 0 {
				out.Mode |= 0o1000
			}
		}
	default:
		return out, bad("berth doesn't have this type of mount yet")
	}
	return out, nil
}

func networkOf(in dockercontainer.CreateRequest, old older) (container.Network, error) {
	h := in.HostConfig
	n := container.Network{
		Mode: string(h.NetworkMode), Hostname: in.Hostname, Domainname: in.Domainname, PublishAll: h.PublishAllPorts,
		DNSSearch: h.DNSSearch, DNSOptions: h.DNSOptions, ExtraHosts: h.ExtraHosts,
	}
	if n.Mode == "" || n.Mode == "default" {
		n.Mode = "bridge"
	}
	if in.NetworkDisabled {
		n.Mode = "none"
	}
	for _, d := range h.DNS {
		n.DNS = append(n.DNS, d.String())
	}
	for p := range in.ExposedPorts {
		n.Exposed = append(n.Exposed, container.Port{Number: p.Num(), Protocol: string(p.Proto())})
	}
	slices.SortFunc(n.Exposed, comparePorts)
	for p, bindings := range h.PortBindings {
		port := container.Port{Number: p.Num(), Protocol: string(p.Proto())}
		if !slices.Contains(n.Exposed, port) {
			n.Exposed = append(n.Exposed, port)
		}
		for _, b := range bindings {
			pub := container.Publish{Port: port}
			if b.HostIP.IsValid() {
				pub.HostIP = b.HostIP.String()
			}
			var err error
			if pub.HostPort, pub.HostPortEnd, err = hostPort(b.HostPort); err != nil {
				return n, err
			}
			n.Published = append(n.Published, pub)
		}
		if len(bindings) == 0 {
			n.Published = append(n.Published, container.Publish{Port: port})
		}
	}
	slices.SortStableFunc(n.Published, func(a, b container.Publish) int { return comparePorts(a.Port, b.Port) })
	endpoints(&n, in.NetworkingConfig, old.MacAddress)
	return n, nil
}

func comparePorts(a, b container.Port) int {
	if a.Number != b.Number {
		return int(a.Number) - int(b.Number)
	}
	return strings.Compare(a.Protocol, b.Protocol)
}

// hostPort reads "", "8080" or "8000-8010".
func hostPort(s string) (first, last uint16, err error) {
	if s == "" || s == "0" {
		return 0, 0, nil
	}
	r, err := network.ParsePortRange(s)
	if err != nil {
		return 0, 0, fmt.Errorf("invalid host port %q: %w: %w", s, err, errdefs.ErrInvalidArgument)
	}
	if r.Start() == r.End() {
		return r.Start(), 0, nil
	}
	return r.Start(), r.End(), nil
}

// endpoints are what was asked of each network, that of the network mode first.
func endpoints(n *container.Network, cfg *network.NetworkingConfig, mac string) {
	if _, joins := container.Joins(n.Mode); joins {
		return
	}
	main := container.Endpoint{Network: n.Mode, MAC: mac}
	var others []container.Endpoint
	if cfg != nil {
		for _, name := range sorted(cfg.EndpointsConfig) {
			ep := container.Endpoint{Network: name}
			if e := cfg.EndpointsConfig[name]; e != nil {
				ep.Aliases = e.Aliases
				if len(e.MacAddress) > 0 {
					ep.MAC = net.HardwareAddr(e.MacAddress).String()
				}
				if e.IPAMConfig != nil {
					if e.IPAMConfig.IPv4Address.IsValid() {
						ep.IPv4 = e.IPAMConfig.IPv4Address.String()
					}
					if e.IPAMConfig.IPv6Address.IsValid() {
						ep.IPv6 = e.IPAMConfig.IPv6Address.String()
					}
				}
			}
			if name == n.Mode || name == "default" {
				if ep.MAC == "" {
					ep.MAC = mac
				}
				ep.Network = n.Mode
				main = ep
				continue
			}
			others = append(others, ep)
		}
	}
	n.Endpoints = append([]container.Endpoint{main}, others...)
}
