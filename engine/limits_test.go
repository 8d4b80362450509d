package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestCheckSets(t *testing.T) {
	for name, c := range map[string]struct {
		asked container.Resources
		want  string // "": it is taken
	}{
		"none":              {container.Resources{}, ""},
		"the first":         {container.Resources{CpusetCPUs: "0", CpusetMems: "0"}, ""},
		"not there":         {container.Resources{CpusetCPUs: "0,8000"}, "Requested CPUs are not available - requested 0,8000, available: 0"},
		"beyond any":        {container.Resources{CpusetCPUs: "0-99999999"}, "Invalid value 0-99999999 for cpuset cpus"},
		"backwards":         {container.Resources{CpusetCPUs: "1-0"}, "Invalid value 1-0 for cpuset cpus"},
		"no list":           {container.Resources{CpusetCPUs: "all"}, `"all" is not a list like 0-3,6`},
		"no end":            {container.Resources{CpusetCPUs: "0-"}, "Invalid value 0- for cpuset cpus"},
		"node not there":    {container.Resources{CpusetMems: "7000"}, "Requested memory nodes are not available - requested 7000, available: 0"},
		"node that is none": {container.Resources{CpusetMems: "-1"}, "Invalid value -1 for cpuset mems"},
	} {
		err := checkSets(c.asked)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !errdefs.IsInvalidArgument(err)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestCutRlimits(t *testing.T) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	asked := []container.Rlimit{{Name: "nofile", Soft: 1, Hard: own.Max}, {Name: "none", Hard: 1}}
	if got := (machine{}).cutRlimits(asked); len(got) != 0 {
		t.Errorf("what is possible: %q", got)
	}
	asked[0].Hard++
	if got := (machine{}).cutRlimits(asked); len(got) != 1 || !strings.Contains(got[0], "ulimit nofile is cut to ") {
		t.Errorf("more than is possible: %q", got)
	}
	if got := (machine{bounding: []string{"CAP_SYS_RESOURCE"}}).cutRlimits(asked); len(got) != 0 {
		t.Errorf("with the capability: %q", got)
	}
}

func TestCheckLimits(t *testing.T) {
	low := int64(101)
	for name, r := range map[string]container.Resources{
		"little memory":      {Memory: 1 << 20},
		"swap alone":         {MemorySwap: 1 << 30},
		"swap below memory":  {Memory: 1 << 30, MemorySwap: 1 << 29},
		"reservation":        {Memory: 1 << 30, MemoryReservation: 1 << 31},
		"swappiness":         {MemorySwappiness: &low},
		"negative CPUs":      {NanoCPUs: -1},
		"more CPUs than are": {NanoCPUs: 1e15},
		"both":               {NanoCPUs: 1e8, CPUQuota: 5000},
		"short period":       {CPUPeriod: 10},
		"weight":             {BlkioWeight: 5},
	} {
		if checkLimits(r) == nil {
			t.Errorf("%s: %+v was accepted", name, r)
		}
	}
	if err := checkLimits(container.Resources{Memory: 64 << 20, MemorySwap: -1, NanoCPUs: 5e8, PidsLimit: 10}); err != nil {
		t.Error(err)
	}
}

func TestCheckOOMScore(t *testing.T) {
	for score, ok := range map[int]bool{0: true, 1000: true, -1000: true, 1001: false, -1001: false} {
		if err := checkOOMScore(score); (err == nil) != ok {
			t.Errorf("%d: %v", score, err)
		}
	}
}

func TestCheckHealth(t *testing.T) {
	for name, c := range map[string]struct {
		check *container.Healthcheck
		ok    bool
	}{
		"none":             {nil, true},
		"defaults":         {&container.Healthcheck{}, true},
		"the least":        {&container.Healthcheck{Interval: time.Millisecond}, true},
		"short interval":   {&container.Healthcheck{Interval: time.Microsecond}, false},
		"negative timeout": {&container.Healthcheck{Timeout: -time.Second}, false},
		"start interval":   {&container.Healthcheck{StartInterval: time.Nanosecond}, false},
		"retries":          {&container.Healthcheck{Retries: -1}, false},
	} {
		if err := checkHealth(c.check); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
