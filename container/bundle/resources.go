package bundle

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/berth-engine/berth/container"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// cpuPeriod is the kernel's default, in microseconds.
const cpuPeriod = 100_000

func resources(c *container.Config, in Inputs) *specs.LinuxResources {
	r := c.Resources
	out := &specs.LinuxResources{}
	if r.Memory != 0 || r.MemorySwap != 0 || r.MemoryReservation != 0 || r.MemorySwappiness != nil || r.OOMKillDisable {
		out.Memory = &specs.LinuxMemory{
			Limit: positive(r.Memory), Reservation: positive(r.MemoryReservation), Swap: swap(r),
		}
		if r.MemorySwappiness != nil {
			v := uint64(*r.MemorySwappiness)
			out.Memory.Swappiness = &v
		}
		if r.OOMKillDisable {
			out.Memory.DisableOOMKiller = &r.OOMKillDisable
		}
	}
	cpu := &specs.LinuxCPU{Cpus: r.CpusetCPUs, Mems: r.CpusetMems}
	period, quota := r.CPUPeriod, r.CPUQuota
	if r.NanoCPUs > 0 {
		period, quota = cpuPeriod, r.NanoCPUs*cpuPeriod/1e9
	}
	if period > 0 {
		v := uint64(period)
		cpu.Period = &v
	}
	if quota != 0 {
		cpu.Quota = &quota
	}
	if r.CPUShares > 0 {
		v := uint64(r.CPUShares)
		cpu.Shares = &v
	}
	if *cpu != (specs.LinuxCPU{}) {
		out.CPU = cpu
	}
	if r.PidsLimit > 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.PidsLimit}
	}
	if r.BlkioWeight > 0 {
		out.BlockIO = &specs.LinuxBlockIO{Weight: &r.BlkioWeight}
	}
	out.Devices = deviceRules(c, in)
	return out
}

func positive(n int64) *int64 {
	if n <= 0 {
		return nil
	}
	return &n
}

// swap: as Docker, a memory limit alone allows as much swap again.
func swap(r container.Resources) *int64 {
	n := r.MemorySwap
	if n == 0 && r.Memory > 0 {
		n = 2 * r.Memory
	}
	if n == 0 {
		return nil
	}
	return &n
}

func rule(allow bool, kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	d := specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Access: access}
	if major >= 0 {
		d.Major = &major
	}
	if minor >= 0 {
		d.Minor = &minor
	}
	return d
}

// deviceRules: everything is denied, nodes may be made (but not opened), and what every container has
// may be used.
func deviceRules(c *container.Config, in Inputs) []specs.LinuxDeviceCgroup {
	if c.Isolation.Privileged {
		return []specs.LinuxDeviceCgroup{rule(true, "a", -1, -1, "rwm")}
	}
	rules := []specs.LinuxDeviceCgroup{
		rule(false, "a", -1, -1, "rwm"),
		rule(true, "c", -1, -1, "m"), rule(true, "b", -1, -1, "m"),
		rule(true, "c", 1, 3, "rwm"), rule(true, "c", 1, 5, "rwm"), rule(true, "c", 1, 7, "rwm"), // null zero full
		rule(true, "c", 1, 8, "rwm"), rule(true, "c", 1, 9, "rwm"), // random urandom
		rule(true, "c", 5, 0, "rwm"), rule(true, "c", 5, 2, "rwm"), rule(true, "c", 136, -1, "rwm"), // tty ptmx pts
	}
	return append(rules, in.DeviceRules...)
}

// ParseDeviceRule reads "c 1:3 rwm" (cgroup v1, devices.allow).
func ParseDeviceRule(s string) (specs.LinuxDeviceCgroup, error) {
	bad := fmt.Errorf("invalid device cgroup rule %q: expected TYPE MAJOR:MINOR ACCESS, as in 'c 1:3 rwm': %w", s, errdefs.ErrInvalidArgument)
	fields := strings.Fields(s)
	if len(fields) != 3 || !strings.Contains("abc", fields[0]) || len(fields[0]) != 1 || strings.Trim(fields[2], "rwm") != "" || len(fields[2]) > 3 {
		return specs.LinuxDeviceCgroup{}, bad
	}
	majorText, minorText, ok := strings.Cut(fields[1], ":")
	if !ok {
		return specs.LinuxDeviceCgroup{}, bad
	}
	var number [2]int64
	for i, text := range []string{majorText, minorText} {
		if text == "*" {
			number[i] = -1
			continue
		}
		n, err := strconv.ParseUint(text, 10, 20)
		if err != nil {
			return specs.LinuxDeviceCgroup{}, bad
		}
		number[i] = int64(n)
	}
	return rule(true, fields[0], number[0], number[1], fields[2]), nil
}
