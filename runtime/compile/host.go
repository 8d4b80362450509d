package compile

import (
	"os"
	"strings"

	"github.com/berth-engine/berth/internal/plainfile"
	"golang.org/x/sys/unix"
)

// Host is what a script depends on beside the configuration.
type Host struct {
	// Capabilities that the caller may hand on, a bit each: its bounding set.
	Capabilities uint64
	// HardLimits are the caller's own hard limits by RLIMIT_*: without CAP_SYS_RESOURCE none can be raised.
	HardLimits map[int]uint64
	// LSM are the security modules in use: "apparmor", "selinux".
	LSM []string
	// Stat says whether the source of a bind mount is a directory; nil: the file system is asked.
	Stat func(path string) (dir bool, err error)
}

// ThisHost looks at the machine.
func ThisHost() *Host {
	h := &Host{HardLimits: map[int]uint64{}, Capabilities: boundingSet(), LSM: modules(), Stat: isDir}
	for _, l := range limits {
		var r unix.Rlimit
		if unix.Getrlimit(l.resource, &r) == nil {
			h.HardLimits[l.resource] = r.Max
		}
	}
	return h
}

func (h *Host) has(module string) bool {
	for _, m := range h.LSM {
		if m == module {
			return true
		}
	}
	return false
}

func isDir(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return info.IsDir(), nil
}

func boundingSet() (set uint64) {
	for c := range 64 {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err != nil {
			return set
		}
		set |= uint64(in) << c
	}
	return set
}

// modules reads the list where securityfs is mounted, else asks for the two by the files that only they have.
func modules() (l []string) {
	if b, err := plainfile.Read("/sys/kernel/security/lsm"); err == nil {
		for m := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
			if m == "apparmor" || m == "selinux" {
				l = append(l, m)
			}
		}
		return l
	}
	if b, err := plainfile.Read("/sys/module/apparmor/parameters/enabled"); err == nil && strings.HasPrefix(string(b), "Y") {
		l = append(l, "apparmor")
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		l = append(l, "selinux")
	}
	return l
}
