package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-engine/berth/runtime/specjson"
)

func parseSpec(config []byte) (*specs.Spec, error) {
	spec, err := specjson.Spec(config)
	if err != nil {
		return nil, err
	}
	if len(spec.Version) < 2 || spec.Version[:2] != "1." {
		return nil, fmt.Errorf("ociVersion %q: this runtime knows the versions 1.x", spec.Version)
	}
	return spec, nil
}

// limited says whether resources ask for anything that needs a cgroup.
func limited(r *specs.LinuxResources) bool {
	if r == nil {
		return false
	}
	return r.Memory != nil || r.CPU != nil || r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit > 0 || r.BlockIO != nil || len(r.HugepageLimits) > 0 || len(r.Unified) > 0
}

// withDefaultDevices adds to the device rules those for what is in every container (OCI runtime-spec 1.3,
// "Allowed Device list" and "Default Devices"): configurations that deny everything rely on it.
func withDefaultDevices(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil || len(r.Devices) == 0 {
		return r
	}
	n := func(v int64) *int64 { return &v }
	allowed := *r
	allowed.Devices = append(append([]specs.LinuxDeviceCgroup(nil), r.Devices...),
		specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "m"}, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Access: "m"})
	for _, d := range [][2]*int64{{n(1), n(3)}, {n(1), n(5)}, {n(1), n(7)}, {n(1), n(8)}, {n(1), n(9)}, {n(5), n(0)}, {n(5), n(2)}, {n(136), nil}} {
		allowed.Devices = append(allowed.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: d[0], Minor: d[1], Access: "rwm"})
	}
	return &allowed
}

// spec writes an example configuration.
func (p *program) spec(args []string) (int, error) {
	dir := ""
	if _, err := parse(args, []option{text(&dir, "directory to write config.json to", "--bundle", "-b")}); err != nil {
		return 1, err
	}
	if dir == "" {
		dir = "."
	}
	b, err := json.MarshalIndent(example(), "", "\t")
	if err != nil {
		return 1, err
	}
	f, err := os.OpenFile(dir+"/"+configFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return 1, fmt.Errorf("%s/%s is there already", dir, configFile)
	}
	if err != nil {
		return 1, err
	}
	_, err = f.Write(append(b, '\n'))
	return 0, errors.Join(err, f.Close())
}

// example is a shell with Docker's default capabilities.
func example() *specs.Spec {
	caps := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	return &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{Terminal: true, Args: []string{"sh"}, Cwd: "/", NoNewPrivileges: true,
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 1024}}},
		Root: &specs.Root{Path: "rootfs", Readonly: true}, Hostname: "box",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		},
		Linux: &specs.Linux{
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.MountNamespace}, {Type: specs.CgroupNamespace}},
			MaskedPaths: []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}
