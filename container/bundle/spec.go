package bundle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-engine/berth/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Inputs is what is known only at start, of the rootfs and of the machine.
type Inputs struct {
	Hostname string
	// User as the rootfs knows it.
	UID, GID uint32
	Groups   []uint32
	Home     string
	// CgroupPath is relative to the root of each hierarchy.
	CgroupPath string
	// Bounding is the machine's own bounding set, by name with CAP_: nobody can be given more.
	Bounding []string
	// Paths of namespaces to join, by kind; "" where the container gets its own.
	JoinPID, JoinUTS, JoinNetwork string
	// HostNetwork leaves the container in the host's network namespace.
	HostNetwork bool
	// Devices are the nodes that Isolation.Devices (or privilege) stands for.
	Devices []specs.LinuxDevice
	// DeviceRules are what the device cgroup allows for them.
	DeviceRules []specs.LinuxDeviceCgroup
	// CgroupV2 tells which hierarchy the machine has.
	CgroupV2 bool
	// AppArmor tells whether the kernel enforces AppArmor profiles.
	AppArmor bool
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Spec returns the OCI configuration. The root and what is mounted by descriptor (binds, volumes) are
// not in it: the runtime gets them beside it.
func Spec(c *container.Config, in Inputs) (*specs.Spec, error) {
	process, err := Process(c, in)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:  "1.2.0",
		Hostname: in.Hostname,
		Root:     &specs.Root{Path: "rootfs", Readonly: c.Isolation.ReadonlyRootfs},
		Process:  process,
		Linux: &specs.Linux{
			Namespaces:  namespaces(c, in),
			CgroupsPath: in.CgroupPath,
			Resources:   resources(c, in),
			Devices:     in.Devices,
			Sysctl:      c.Isolation.Sysctls,
		},
	}
	if c.Network.Domainname != "" {
		s.Domainname = c.Network.Domainname
	}
	if c.Isolation.UTSMode == "host" || in.JoinUTS != "" { // the name is another's
		s.Hostname, s.Domainname = "", ""
	}
	s.Mounts = mounts(c)
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = SystemPaths(c.Isolation)
	return s, nil
}

// Process returns the process alone: of a start, or of one more in a running container. Of in it takes
// who it is, Hostname, Bounding and AppArmor.
func Process(c *container.Config, in Inputs) (*specs.Process, error) {
	capabilities, err := Capabilities(c.Isolation, in.Bounding)
	if err != nil {
		return nil, err
	}
	p := &specs.Process{
		Terminal: c.Process.TTY,
		User:     specs.User{UID: in.UID, GID: in.GID, AdditionalGids: in.Groups},
		Args:     c.Process.Args(),
		Env:      environment(c, in),
		Cwd:      c.Process.WorkingDir,
		Capabilities: &specs.LinuxCapabilities{
			Bounding: capabilities, Permitted: capabilities, Effective: capabilities,
		},
		NoNewPrivileges: c.Isolation.NoNewPrivileges,
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if in.UID != 0 { // the kernel would clear them at execve; so does Docker (moby, WithCapabilities)
		p.Capabilities.Permitted, p.Capabilities.Effective = nil, nil
	}
	if c.Process.OOMScoreAdj != 0 {
		p.OOMScoreAdj = &c.Process.OOMScoreAdj
	}
	if c.Process.ConsoleHeight != 0 && c.Process.TTY {
		p.ConsoleSize = &specs.Box{Height: uint(c.Process.ConsoleHeight), Width: uint(c.Process.ConsoleWidth)}
	}
	for _, l := range c.Process.Rlimits {
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: l.Soft, Hard: l.Hard})
	}
	if in.AppArmor && !c.Isolation.Privileged {
		p.ApparmorProfile = c.Isolation.AppArmor
	}
	return p, nil
}

// environment adds what Docker adds, where the image and the user don't say it.
func environment(c *container.Config, in Inputs) []string {
	defaults := []string{defaultPath, "HOSTNAME=" + in.Hostname}
	if c.Process.TTY {
		defaults = append(defaults, "TERM=xterm")
	}
	env := Merge(defaults, c.Process.Env)
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) {
		env = append(env, "HOME="+in.Home)
	}
	return env
}

// Merge returns base with the variables of over in place of its own, and the others after them. A name
// alone (without "=") in over takes the variable away.
func Merge(base, over []string) []string {
	env := slices.Clone(base)
	for _, kv := range over {
		name, _, set := strings.Cut(kv, "=")
		at := slices.IndexFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		switch {
		case at >= 0 && set:
			env[at] = kv
		case at >= 0:
			env = slices.Delete(env, at, at+1)
		case set:
			env = append(env, kv)
		}
	}
	return env
}

func namespaces(c *container.Config, in Inputs) []specs.LinuxNamespace {
	all := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(kind specs.LinuxNamespaceType, host bool, path string) {
		if !host {
			all = append(all, specs.LinuxNamespace{Type: kind, Path: path})
		}
	}
	add(specs.PIDNamespace, c.Isolation.PidMode == "host", in.JoinPID)
	add(specs.NetworkNamespace, in.HostNetwork, in.JoinNetwork)
	add(specs.IPCNamespace, c.Isolation.IPCMode == "host", "")
	add(specs.UTSNamespace, c.Isolation.UTSMode == "host", in.JoinUTS)
	add(specs.CgroupNamespace, hostCgroups(c, in), "")
	return all
}

// hostCgroups: Docker's default is "private" on v2 and "host" on v1. Ours is private on both (the
// container has no use for the host's paths), unless the user says otherwise or is privileged on v1.
func hostCgroups(c *container.Config, in Inputs) bool {
	switch c.Isolation.CgroupNamespace {
	case "host":
		return true
	case "private":
		return false
	}
	return c.Isolation.Privileged && !in.CgroupV2
}

func mounts(c *container.Config) []specs.Mount {
	access := "ro"
	if c.Isolation.Privileged {
		access = "rw"
	}
	shm := c.Resources.ShmSize
	if shm == 0 {
		shm = 64 << 20
	}
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{access, "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	switch mode := c.Isolation.IPCMode; {
	case mode == "host":
		all = append(all, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "nosuid", "noexec", "nodev"}})
	case mode == "none": // no /dev/shm of its own
	default:
		all = append(all, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", shm)}})
	}
	for _, m := range c.Mounts {
		if m.Kind == container.TmpfsMount {
			all = append(all, tmpfs(m))
		}
	}
	// A user's mount takes the place of a default one at the same path.
	return slices.DeleteFunc(all, func(d specs.Mount) bool {
		return slices.ContainsFunc(c.Mounts, func(m container.Mount) bool {
			return m.Target == d.Destination && (m.Kind != container.TmpfsMount || d.Type != "tmpfs" || d.Source != "tmpfs" || d.Destination == "/dev")
		})
	})
}

func tmpfs(m container.Mount) specs.Mount {
	options := []string{"nosuid", "nodev", "noexec"}
	if m.Options != "" { // --tmpfs: what the user says replaces the defaults that it contradicts
		for _, o := range strings.Split(m.Options, ",") {
			options = slices.DeleteFunc(options, func(d string) bool { return d == "no"+o })
			options = append(options, o)
		}
	}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	if m.Size > 0 {
		options = append(options, fmt.Sprintf("size=%d", m.Size))
	}
	if m.Mode != 0 {
		options = append(options, fmt.Sprintf("mode=%o", m.Mode))
	} else if !strings.Contains(m.Options, "mode=") {
		options = append(options, "mode=1777")
	}
	return specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: options}
}

// SystemPaths are the paths that the container does not see, and those that it can't write to.
func SystemPaths(i container.Isolation) (masked, readonly []string) {
	if i.Privileged {
		return nil, nil
	}
	if masked = i.MaskedPaths; masked == nil {
		masked = slices.Clone(maskedPaths)
	}
	if readonly = i.ReadonlyPaths; readonly == nil {
		readonly = slices.Clone(readonlyPaths)
	}
	return masked, readonly
}

// What of /proc and /sys a container has no business with (moby, daemon/pkg/oci/defaults.go).
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)
