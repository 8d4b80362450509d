package bundle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-engine/berth/container"
	"github.com/containerd/errdefs"
)

// capabilityNames are those of capabilities(7), by number.
var capabilityNames = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
	SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE
	AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

// defaultCapabilities are Docker's fourteen.
var defaultCapabilities = strings.Fields(`CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP
	NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE`)

// CapabilitySet returns the names, with CAP_, of the bits that are set (as /proc/PID/status CapBnd).
func CapabilitySet(bits uint64) []string {
	var names []string
	for i, name := range capabilityNames {
		if bits&(1<<i) != 0 {
			names = append(names, "CAP_"+name)
		}
	}
	return names
}

// CheckCapability returns a capability's full name, or "ALL", from what a user typed;
// errdefs.ErrInvalidArgument where there is none of that name.
func CheckCapability(typed string) (string, error) {
	name := strings.TrimPrefix(strings.ToUpper(typed), "CAP_")
	if name == "ALL" {
		return name, nil
	}
	if !slices.Contains(capabilityNames, name) {
		return "", fmt.Errorf("invalid capability: %q: Linux has none of that name (see capabilities(7)): %w", typed, errdefs.ErrInvalidArgument)
	}
	return "CAP_" + name, nil
}

// Capabilities is what the process gets, in the order of their numbers: Docker's default set, or all
// for a privileged container, with what was added and without what was dropped (moby,
// caps.TweakCapabilities), as far as the machine's bounding set goes. What is asked for by name and
// missing there is an error; what "ALL" or privilege would have brought is left out.
func Capabilities(i container.Isolation, bounding []string) ([]string, error) {
	var add, drop []string
	for _, list := range []struct {
		typed []string
		to    *[]string
	}{{i.CapAdd, &add}, {i.CapDrop, &drop}} {
		for _, typed := range list.typed {
			name, err := CheckCapability(typed)
			if err != nil {
				return nil, err
			}
			*list.to = append(*list.to, name)
		}
	}
	base := defaultCapabilities
	switch {
	case i.Privileged:
		base, drop = capabilityNames, nil
	case slices.Contains(add, "ALL"):
		base = capabilityNames
	case slices.Contains(drop, "ALL"):
		base = nil
	}
	var set []string
	for _, short := range capabilityNames {
		name := "CAP_" + short
		wanted := slices.Contains(base, short) && !slices.Contains(drop, name)
		asked := slices.Contains(add, name)
		has := slices.Contains(bounding, name)
		switch {
		case asked && !has:
			return nil, fmt.Errorf("capability %s cannot be given: this machine doesn't have it itself (its bounding set lacks it): %w", name, errdefs.ErrInvalidArgument)
		case (wanted || asked) && has:
			set = append(set, name)
		}
	}
	return set, nil
}

// Missing is what a privileged container would have but for the machine's bounding set.
func Missing(bounding []string) []string {
	var missing []string
	for _, short := range capabilityNames {
		if !slices.Contains(bounding, "CAP_"+short) {
			missing = append(missing, "CAP_"+short)
		}
	}
	return missing
}
