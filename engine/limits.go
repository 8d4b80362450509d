package engine

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/internal/numberlist"
	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// Where the kernel lists the processors and the memory nodes that there are (sysfs, "cpu" and "node").
const (
	onlineProcessors = "/sys/devices/system/cpu/online"
	onlineNodes      = "/sys/devices/system/node/online"
)

// checkSets refuses processors and memory nodes that this machine doesn't have.
func checkSets(r container.Resources) error {
	for _, set := range []struct{ option, what, asked, online string }{
		{"cpuset cpus", "CPUs", r.CpusetCPUs, onlineProcessors},
		{"cpuset mems", "memory nodes", r.CpusetMems, onlineNodes},
	} {
		if set.asked == "" {
			continue
		}
		asked, err := numbers(set.asked)
		if err != nil {
			return fmt.Errorf("Invalid value %s for %s: %w: %w", set.asked, set.option, err, errdefs.ErrInvalidArgument) // Docker's sentence
		}
		line, err := os.ReadFile(set.online)
		if err != nil {
			continue // the kernel says what it thinks of them when the container starts
		}
		online := strings.TrimSpace(string(line))
		available, err := numbers(online)
		if err != nil {
			return fmt.Errorf("%s: %w", set.online, err)
		}
		for n := range asked {
			if !available[n] {
				return fmt.Errorf("Requested %s are not available - requested %s, available: %s: %w", set.what, set.asked, online, errdefs.ErrInvalidArgument) // Docker's sentence
			}
		}
	}
	return nil
}

// maxNumber is above every processor and node of any machine that Linux knows (CONFIG_NR_CPUS).
const maxNumber = 1 << 13

// numbers reads a list like "0-3,6".
func numbers(list string) (map[int]bool, error) {
	spans, ok := numberlist.Parse(list, maxNumber+1)
	if !ok {
		return nil, fmt.Errorf("%q is not a list like 0-3,6", list)
	}
	all := map[int]bool{}
	for _, s := range spans {
		for n := s.First; n <= s.Last; n++ {
			all[int(n)] = true
		}
	}
	return all, nil
}

// cutRlimits says which of the resource limits that were asked for this machine will cut: without
// CAP_SYS_RESOURCE nobody gets above the hard limit of who starts him (setrlimit(2)).
func (m machine) cutRlimits(asked []container.Rlimit) (warnings []string) {
	if slices.Contains(m.bounding, "CAP_SYS_RESOURCE") {
		return nil
	}
	for _, a := range asked {
		named, err := (&units.Ulimit{Name: a.Name}).GetRlimit()
		if err != nil {
			continue // refused when the container starts
		}
		var own unix.Rlimit
		if err := unix.Getrlimit(named.Type, &own); err != nil || a.Hard <= own.Max {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("the ulimit %s is cut to %d, the hard limit that the engine has itself: this machine gives it no CAP_SYS_RESOURCE to raise it", a.Name, own.Max))
	}
	return warnings
}
