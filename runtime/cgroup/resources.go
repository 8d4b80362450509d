package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// More names the version 1 controllers that r needs beside the usual ones.
func More(r *specs.LinuxResources) []string {
	var more []string
	if r == nil {
		return nil
	}
	if c := r.CPU; c != nil && (c.Cpus != "" || c.Mems != "") {
		more = append(more, "cpuset")
	}
	if b := r.BlockIO; b != nil && b.Weight != nil {
		more = append(more, "blkio")
	}
	return more
}

// Set writes the limits of r (OCI runtime-spec, "config-linux.md", "Control groups"). What r says nothing
// of stays as it is. The error says which file the kernel refused, and what.
func (g *Group) Set(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	set := []func(*specs.LinuxResources) error{g.memory1, g.cpu1, g.pids, g.blkio1, g.devices1}
	if g.system.version == 2 {
		set = []func(*specs.LinuxResources) error{g.memory2, g.cpu2, g.pids, g.io2, g.devices2}
	}
	for _, f := range set {
		if err := f(r); err != nil {
			return fmt.Errorf("set limits of cgroup %s: %w", g.name, err)
		}
	}
	return nil
}

// put writes a file of a controller. A machine without the controller, or without the file, is an error
// with a sentence: a limit must not be left out in silence.
func (g *Group) put(controller, file, value string) error {
	at := g.controller(controller)
	if at == "" {
		return fmt.Errorf("this machine has no %s controller, so %s can't be set", controller, file)
	}
	err := write(at, file, value)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("this kernel has no %s in its %s controller", file, controller)
	}
	return err
}

func limit(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func (g *Group) memory1(r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil {
		return nil
	}
	put := func(file string, n *int64) error {
		if n == nil {
			return nil
		}
		return g.put("memory", file, strconv.FormatInt(*n, 10))
	}
	// memory.limit may never exceed memory+swap: on the way up the second goes first.
	order := []func() error{
		func() error { return put("memory.limit_in_bytes", m.Limit) },
		func() error { return g.swap1(m.Swap) },
	}
	if m.Limit != nil && m.Swap != nil {
		now, err := os.ReadFile(filepath.Join(g.controller("memory"), "memory.memsw.limit_in_bytes"))
		if err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(now)), 10, 64); err == nil && n < *m.Limit {
				order[0], order[1] = order[1], order[0]
			}
		}
	}
	for _, f := range order {
		if err := f(); err != nil {
			return err
		}
	}
	if err := put("memory.soft_limit_in_bytes", m.Reservation); err != nil {
		return err
	}
	if m.Swappiness != nil {
		if err := g.put("memory", "memory.swappiness", strconv.FormatUint(*m.Swappiness, 10)); err != nil {
			return err
		}
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		return g.put("memory", "memory.oom_control", "1")
	}
	return nil
}

// swap1: a kernel that does not count swap has no file; a limit that only bounds swap is then left out,
// as there is nothing that it could bound.
func (g *Group) swap1(n *int64) error {
	if n == nil {
		return nil
	}
	at := g.controller("memory")
	if _, err := os.Stat(filepath.Join(at, "memory.memsw.limit_in_bytes")); at != "" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return g.put("memory", "memory.memsw.limit_in_bytes", strconv.FormatInt(*n, 10))
}

func (g *Group) memory2(r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil {
		return nil
	}
	if m.Limit != nil {
		if err := g.put("memory", "memory.max", limit(*m.Limit)); err != nil {
			return err
		}
	}
	if m.Swap != nil {
		swap := *m.Swap
		if swap >= 0 && m.Limit != nil && *m.Limit >= 0 { // the OCI value counts memory too
			swap -= *m.Limit
		}
		err := g.put("memory", "memory.swap.max", limit(swap))
		if err != nil && !strings.Contains(err.Error(), "this kernel has no") {
			return err
		}
	}
	if m.Reservation != nil {
		return g.put("memory", "memory.low", limit(*m.Reservation))
	}
	return nil
}

func (g *Group) cpu1(r *specs.LinuxResources) error {
	c := r.CPU
	if c == nil {
		return nil
	}
	if c.Shares != nil {
		if err := g.put("cpu", "cpu.shares", strconv.FormatUint(*c.Shares, 10)); err != nil {
			return err
		}
	}
	if c.Period != nil {
		if err := g.put("cpu", "cpu.cfs_period_us", strconv.FormatUint(*c.Period, 10)); err != nil {
			return err
		}
	}
	if c.Quota != nil {
		if err := g.put("cpu", "cpu.cfs_quota_us", strconv.FormatInt(*c.Quota, 10)); err != nil {
			return err
		}
	}
	return g.cpuset(c)
}

func (g *Group) cpuset(c *specs.LinuxCPU) error {
	if c.Cpus != "" {
		if err := g.put("cpuset", "cpuset.cpus", c.Cpus); err != nil {
			return err
		}
	}
	if c.Mems != "" {
		return g.put("cpuset", "cpuset.mems", c.Mems)
	}
	return nil
}

// cpu2: shares (2 to 262144) become weights (1 to 10000) as every runtime converts them
// (OCI runtime-spec, crun(1), "cgroup v2").
func (g *Group) cpu2(r *specs.LinuxResources) error {
	c := r.CPU
	if c == nil {
		return nil
	}
	if c.Shares != nil && *c.Shares != 0 {
		shares := min(max(*c.Shares, 2), 262144)
		if err := g.put("cpu", "cpu.weight", strconv.FormatUint(1+((shares-2)*9999)/262142, 10)); err != nil {
			return err
		}
	}
	if c.Quota != nil || c.Period != nil {
		quota, period := "max", uint64(100000)
		if c.Quota != nil && *c.Quota > 0 {
			quota = strconv.FormatInt(*c.Quota, 10)
		}
		if c.Period != nil && *c.Period > 0 {
			period = *c.Period
		}
		if err := g.put("cpu", "cpu.max", fmt.Sprintf("%s %d", quota, period)); err != nil {
			return err
		}
	}
	return g.cpuset(c)
}

func (g *Group) pids(r *specs.LinuxResources) error {
	if r.Pids == nil || r.Pids.Limit == nil || *r.Pids.Limit == 0 {
		return nil
	}
	return g.put("pids", "pids.max", limit(*r.Pids.Limit))
}

func (g *Group) blkio1(r *specs.LinuxResources) error {
	if r.BlockIO == nil || r.BlockIO.Weight == nil {
		return nil
	}
	value := strconv.FormatUint(uint64(*r.BlockIO.Weight), 10)
	at := g.controller("blkio")
	if at != "" {
		if _, err := os.Stat(filepath.Join(at, "blkio.weight")); errors.Is(err, fs.ErrNotExist) {
			return g.put("blkio", "blkio.bfq.weight", value)
		}
	}
	return g.put("blkio", "blkio.weight", value)
}

// io2: weights of 10 to 1000 become 1 to 10000, as runc converts them.
func (g *Group) io2(r *specs.LinuxResources) error {
	if r.BlockIO == nil || r.BlockIO.Weight == nil || *r.BlockIO.Weight == 0 {
		return nil
	}
	weight := uint64(*r.BlockIO.Weight)
	if at := g.controller("io"); at != "" {
		if _, err := os.Stat(filepath.Join(at, "io.bfq.weight")); err == nil {
			return g.put("io", "io.bfq.weight", strconv.FormatUint(weight, 10))
		}
	}
	return g.put("io", "io.weight", strconv.FormatUint(1+(max(weight, 10)-10)*9999/990, 10))
}

func (g *Group) devices1(r *specs.LinuxResources) error {
	for _, d := range r.Devices {
		file := "devices.deny"
		if d.Allow {
			file = "devices.allow"
		}
		if err := g.put("devices", file, deviceRule(d)); err != nil {
			return err
		}
	}
	return nil
}

// deviceRule is a rule as devices.allow has it: "c 1:3 rwm", or "a" for everything.
func deviceRule(d specs.LinuxDeviceCgroup) string {
	if d.Type == "a" || d.Type == "" {
		return "a"
	}
	number := func(n *int64) string {
		if n == nil || *n < 0 {
			return "*"
		}
		return strconv.FormatInt(*n, 10)
	}
	return fmt.Sprintf("%s %s:%s %s", d.Type, number(d.Major), number(d.Minor), d.Access)
}
