package compile

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capabilityNames are in the order of the kernel's numbers (linux/capability.h).
var capabilityNames = [...]string{
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
}

// capabilitySets are the five sets of a process, a bit for each capability.
type capabilitySets struct{ bounding, effective, permitted, inheritable, ambient uint64 }

// sets reads the configuration's. What the caller does not have itself (and no new user namespace gives) can't
// be handed on and is left out, as other runtimes do.
func (b *builder) capabilitySets(c *specs.LinuxCapabilities) (s capabilitySets, err error) {
	if c == nil {
		return s, nil
	}
	for _, l := range []struct {
		to    *uint64
		names []string
	}{{&s.bounding, c.Bounding}, {&s.effective, c.Effective}, {&s.permitted, c.Permitted}, {&s.inheritable, c.Inheritable}, {&s.ambient, c.Ambient}} {
		for _, name := range l.names {
			n := capability(name)
			if n < 0 {
				return s, fmt.Errorf("capability %q: there is none of that name", name)
			}
			*l.to |= 1 << n
		}
	}
	if !b.inUserNamespace() {
		s.bounding &= b.host.Capabilities
	}
	s.permitted &= s.bounding // execve leaves no more than that, and what is not in the caller's set is refused
	s.effective &= s.permitted
	s.inheritable &= s.bounding
	s.ambient &= s.permitted & s.inheritable
	return s, nil
}

func capability(name string) int {
	for i, n := range capabilityNames {
		if n == name {
			return i
		}
	}
	return -1
}

const capSysAdmin = 1 << 21

// bound drops from the bounding set what is not in it, also what this program has no name for.
func (b *builder) bound(set uint64) {
	end := b.Label()
	for i := range 64 {
		if set&(1<<i) != 0 {
			continue
		}
		name := "of a newer kernel"
		if i < len(capabilityNames) {
			name = capabilityNames[i]
		}
		// EINVAL: the kernel knows no capability of that number, and so none above
		b.Do("drop from the bounding set", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, i, 0, 0, 0).On(name).May(unix.EINVAL).Else(end)
		if i > len(capabilityNames)+6 {
			break
		}
	}
	b.Mark(end)
}

// setCapabilities sets the three sets of capset(2).
func (b *builder) setCapabilities(s capabilitySets) {
	var head [8]byte
	binary.NativeEndian.PutUint32(head[:], unix.LINUX_CAPABILITY_VERSION_3)
	var data [24]byte
	for i, set := range []uint64{s.effective, s.permitted, s.inheritable} {
		binary.NativeEndian.PutUint32(data[4*i:], uint32(set))
		binary.NativeEndian.PutUint32(data[12+4*i:], uint32(set>>32))
	}
	text := fmt.Sprintf("effective %#x, permitted %#x, inheritable %#x", s.effective, s.permitted, s.inheritable)
	b.Do("set the capabilities", unix.SYS_CAPSET, b.Bytes("version 3", head[:]), b.Bytes(text, data[:]))
}

func (b *builder) setAmbient(set uint64) {
	b.Do("clear the ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	for i, name := range capabilityNames {
		if set&(1<<i) != 0 {
			b.Do("raise the ambient capability", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, i, 0, 0).On(name)
		}
	}
}

// Capabilities names all capabilities that are understood.
func Capabilities() []string {
	return slices.Clone(capabilityNames[:])
}
