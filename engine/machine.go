package engine

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/berth-engine/berth/container/bundle"
	"golang.org/x/sys/unix"
)

// machine is what the engine found of the machine that it runs on.
type machine struct {
	cgroupV2 bool
	apparmor bool
	bounding []string // capabilities that a container can have at most
	seccomp  bool
	kernel   string
}

func lookAtMachine() (machine, error) {
	var m machine
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return m, fmt.Errorf("no cgroup file system at /sys/fs/cgroup (%w): mount one, as every distribution's init does", err)
	}
	m.cgroupV2 = fs.Type == unix.CGROUP2_SUPER_MAGIC
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	m.apparmor = err == nil && strings.HasPrefix(string(enabled), "Y")
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch name {
		case "CapBnd":
			bits, err := strconv.ParseUint(value, 16, 64)
			if err != nil {
				return m, fmt.Errorf("/proc/self/status: %w", err)
			}
			m.bounding = bundle.CapabilitySet(bits)
		case "Seccomp":
			m.seccomp = true
		}
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return m, err
	}
	m.kernel = unix.ByteSliceToString(uts.Release[:])
	return m, nil
}

// operatingSystem is what os-release(5) calls the machine's system.
func operatingSystem() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return "unknown"
}
