package seccomp

import (
	"fmt"
	"slices"
	"sort"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// abi is one way to enter the kernel, with numbers of its own.
type abi int

const (
	x86_64 abi = iota
	x32
	x86
	aarch64
	arm
	abis int = iota
)

// x32Bit marks the calls of the x32 ABI, which shares its audit architecture with x86-64.
const x32Bit = 0x40000000

// call is a system call and its numbers.
type call struct {
	name string
	nr   [abis]int32
}

// number returns the call's number in a, without the x32 bit.
func (c *call) number(a abi) (nr uint32, ok bool) {
	if c.nr[a] < 0 {
		return 0, false
	}
	return uint32(c.nr[a]), true
}

// lookup returns the call of this name, nil where no ABI has one.
func lookup(name string) *call {
	i := sort.Search(len(calls), func(i int) bool { return calls[i].name >= name })
	if i < len(calls) && calls[i].name == name {
		return &calls[i]
	}
	return nil
}

// width returns the bits of an argument that are compared: as in libseccomp 32 for x32, though its registers have 64.
func (a abi) width() int {
	if a == x86 || a == x32 || a == arm {
		return 32
	}
	return 64
}

// machine is what programs of one audit architecture can be: a section of the filter.
type machine struct {
	audit uint32
	main  abi
	x32   bool // x86-64: the x32 ABI is allowed, too
}

// machines returns the sections of a filter for goarch: the native one first, then those of listed that it can run.
// The native ABI needs no listing (libseccomp, seccomp_init(3)).
func machines(goarch string, listed []specs.Arch) ([]machine, error) {
	for _, a := range listed {
		if !known(a) {
			return nil, fmt.Errorf("seccomp: unknown architecture %q", a)
		}
	}
	has := func(a specs.Arch) bool { return slices.Contains(listed, a) }
	var ms []machine
	switch goarch {
	case "amd64":
		ms = append(ms, machine{audit: unix.AUDIT_ARCH_X86_64, main: x86_64, x32: has(specs.ArchX32)})
		if has(specs.ArchX86) {
			ms = append(ms, machine{audit: unix.AUDIT_ARCH_I386, main: x86})
		}
	case "arm64":
		ms = append(ms, machine{audit: unix.AUDIT_ARCH_AARCH64, main: aarch64})
		if has(specs.ArchARM) {
			ms = append(ms, machine{audit: unix.AUDIT_ARCH_ARM, main: arm})
		}
	default:
		return nil, fmt.Errorf("seccomp: no system call tables for %s", goarch)
	}
	return ms, nil
}

// known tells whether a configuration may name the architecture. Those that the machine cannot run need no section:
// what no section is for is killed.
func known(a specs.Arch) bool {
	switch a {
	case specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64, specs.ArchMIPS,
		specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
		specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC,
		specs.ArchPARISC64, specs.ArchRISCV64, specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB:
		return true
	}
	return false
}

// mux returns the call through which i386 also makes this one, and the value of its first argument that means it
// (include/uapi/linux/net.h and ipc.h), "" if there is none.
func mux(name string) (through string, number uint64) {
	switch name {
	case "socket":
		return "socketcall", 1
	case "bind":
		return "socketcall", 2
	case "connect":
		return "socketcall", 3
	case "listen":
		return "socketcall", 4
	case "accept":
		return "socketcall", 5
	case "getsockname":
		return "socketcall", 6
	case "getpeername":
		return "socketcall", 7
	case "socketpair":
		return "socketcall", 8
	case "send":
		return "socketcall", 9
	case "recv":
		return "socketcall", 10
	case "sendto":
		return "socketcall", 11
	case "recvfrom":
		return "socketcall", 12
	case "shutdown":
		return "socketcall", 13
	case "setsockopt":
		return "socketcall", 14
	case "getsockopt":
		return "socketcall", 15
	case "sendmsg":
		return "socketcall", 16
	case "recvmsg":
		return "socketcall", 17
	case "accept4":
		return "socketcall", 18
	case "recvmmsg":
		return "socketcall", 19
	case "sendmmsg":
		return "socketcall", 20
	case "semop":
		return "ipc", 1
	case "semget":
		return "ipc", 2
	case "semctl":
		return "ipc", 3
	case "semtimedop":
		return "ipc", 4
	case "msgsnd":
		return "ipc", 11
	case "msgrcv":
		return "ipc", 12
	case "msgget":
		return "ipc", 13
	case "msgctl":
		return "ipc", 14
	case "shmat":
		return "ipc", 21
	case "shmdt":
		return "ipc", 22
	case "shmget":
		return "ipc", 23
	case "shmctl":
		return "ipc", 24
	}
	return "", 0
}
