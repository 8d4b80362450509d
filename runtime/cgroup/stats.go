package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Stats are a group's counters.
type Stats struct {
	CPU         uint64 // nanoseconds
	Memory      uint64 // bytes, page cache included
	MemoryLimit uint64 // bytes; 0: none
	MemoryCache uint64 // bytes of inactive page cache, which Docker does not count as used
	Pids        uint64
	PidsLimit   uint64 // 0: none
	OOMKills    uint64
}

// unlimited is what version 1 says for no limit: the largest number of pages, in bytes.
const unlimited = 1 << 62

// Stats reads the counters. A controller that the machine doesn't have gives zeros.
func (g *Group) Stats() (Stats, error) {
	var (
		s    Stats
		errs []error
	)
	number := func(to *uint64, controller, file string, scale uint64) {
		b, err := g.read(controller, file)
		text := strings.TrimSpace(string(b))
		if err != nil || text == "" || text == "max" {
			errs = append(errs, err)
			return
		}
		n, err := strconv.ParseUint(text, 10, 64)
		errs = append(errs, err)
		if n < unlimited {
			*to = n * scale
		}
	}
	keyed := func(to *uint64, controller, file, key string, scale uint64) {
		b, err := g.read(controller, file)
		errs = append(errs, err)
		for line := range strings.Lines(string(b)) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+" "); ok {
				n, err := strconv.ParseUint(value, 10, 64)
				errs = append(errs, err)
				*to = n * scale
			}
		}
	}
	if g.system.version == 2 {
		keyed(&s.CPU, "cpu", "cpu.stat", "usage_usec", 1000)
		number(&s.Memory, "memory", "memory.current", 1)
		number(&s.MemoryLimit, "memory", "memory.max", 1)
		keyed(&s.MemoryCache, "memory", "memory.stat", "inactive_file", 1)
		keyed(&s.OOMKills, "memory", "memory.events", "oom_kill", 1)
	} else {
		number(&s.CPU, "cpuacct", "cpuacct.usage", 1)
		number(&s.Memory, "memory", "memory.usage_in_bytes", 1)
		number(&s.MemoryLimit, "memory", "memory.limit_in_bytes", 1)
		keyed(&s.MemoryCache, "memory", "memory.stat", "total_inactive_file", 1)
		keyed(&s.OOMKills, "memory", "memory.oom_control", "oom_kill", 1)
	}
	number(&s.Pids, "pids", "pids.current", 1)
	number(&s.PidsLimit, "pids", "pids.max", 1)
	return s, errors.Join(errs...)
}

// OOMKills is how many processes of the group the kernel has killed for want of memory.
func (g *Group) OOMKills() (uint64, error) {
	file := "memory.oom_control"
	if g.system.version == 2 {
		file = "memory.events"
	}
	b, err := g.read("memory", file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			return strconv.ParseUint(value, 10, 64)
		}
	}
	return 0, nil
}

// read returns a file of a controller; nothing where the machine doesn't have it.
func (g *Group) read(controller, file string) ([]byte, error) {
	at := g.controller(controller)
	if at == "" {
		return nil, nil
	}
	b, err := os.ReadFile(filepath.Join(at, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
