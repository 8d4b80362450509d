package engine

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

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

// The least memory that Docker accepts.
const minMemory = 6 << 20

func checkLimits(r container.Resources) error {
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{r.Memory < 0 || r.Memory > 0 && r.Memory < minMemory, "Minimum memory limit allowed is 6MB"},
		{r.MemorySwap > 0 && r.Memory == 0, "You should always set the Memory limit when using Memoryswap limit, see usage"},
		{r.MemorySwap > 0 && r.MemorySwap < r.Memory, "Minimum memoryswap limit should be larger than memory limit, see usage"},
		{r.MemoryReservation > 0 && r.Memory > 0 && r.MemoryReservation > r.Memory, "Minimum memory limit can not be less than memory reservation limit, see usage"},
		{r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100), "Invalid value for memory swappiness: valid memory swappiness range is 0-100"},
		{r.NanoCPUs < 0, "NanoCPUs can't be negative: give the number of CPUs, as in --cpus 1.5"},
		{r.NanoCPUs > 0 && (r.CPUQuota > 0 || r.CPUPeriod > 0), "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set"},
		{r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000), "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"},
		{r.CPUQuota > 0 && r.CPUQuota < 1000, "CPU cfs quota can not be less than 1ms (i.e. 1000)"},
		{r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000), "Range of blkio weight is from 10 to 1000"},
		{r.ShmSize < 0, "SHM size can not be less than 0"},
	} {
		if c.bad {
			return fmt.Errorf("%s: %w", c.text, errdefs.ErrInvalidArgument)
		}
	}
	if online := onlineCPUs(); r.NanoCPUs > int64(online)*1e9 {
		return fmt.Errorf("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available: %w", online, online, errdefs.ErrInvalidArgument)
	}
	return nil
}

// checkOOMScore: the range is the kernel's (proc_pid_oom_score_adj(5)).
func checkOOMScore(score int) error {
	if score < -1000 || score > 1000 {
		return fmt.Errorf("Invalid value %d, range for oom score adj is [-1000, 1000]: %w", score, errdefs.ErrInvalidArgument) // Docker's sentence
	}
	return nil
}

// minHealthTime is the shortest time that Docker accepts.
const minHealthTime = time.Millisecond

// checkHealth refuses times that are shorter than Docker's; zero is the default.
func checkHealth(h *container.Healthcheck) error {
	if h == nil {
		return nil
	}
	for _, t := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if t.value != 0 && t.value < minHealthTime {
			return fmt.Errorf("%s in Healthcheck cannot be less than %s: %w", t.name, minHealthTime, errdefs.ErrInvalidArgument) // Docker's sentence
		}
	}
	if h.Retries < 0 {
		return fmt.Errorf("Retries in Healthcheck cannot be negative: %w", errdefs.ErrInvalidArgument) // Docker's sentence
	}
	return nil
}
