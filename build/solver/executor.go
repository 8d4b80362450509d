package solver

import (
	"context"
	"io"
	"os"
)

// Network says what a step sees of the network.
type Network string

// The networks of a step.
const (
	NetworkDefault Network = "default" // the engine's bridge
	NetworkNone    Network = "none"
	NetworkHost    Network = "host"
)

// Host is a line of /etc/hosts.
type Host struct{ Name, IP string }

// Ulimit is a resource limit by Docker's name ("nofile"); -1 means unlimited.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Resources are the limits of a step's cgroup; zero values are no limits.
type Resources struct {
	Memory, MemorySwap     int64  // bytes; MemorySwap counts both, -1 is unlimited
	CPUShares, CPUPeriod   uint64 // CPUPeriod in microseconds
	CPUQuota               int64  // microseconds a period
	CpusetCpus, CpusetMems string
}

// Mount is one tree or file that a step sees in its root.
type Mount struct {
	// Dest is absolute and exists in the root file system, as a directory or a file as the tree is one.
	Dest string
	// Tree is a detached mount (open_tree, fsmount), to be attached with move_mount and an empty path.
	// The solver closes it after Run has returned.
	Tree *os.File
	// ReadOnly is already so on the mount itself; it is here for who lists mounts.
	ReadOnly bool
}

// ExecSpec is one process to run. Whoever runs it brings /dev, /proc, /sys, /etc/hosts and
// /etc/resolv.conf (and nothing else that would need a new name in the root file system: the solver
// makes these mount points where they are missing, and keeps them out of the step's layer).
type ExecSpec struct {
	// Rootfs is a detached, writable mount of the root file system. The solver closes it afterwards; by
	// the time Run returns nothing of the step may use it any more: every process dead, the step's mount
	// namespace gone.
	Rootfs *os.File
	// ReadOnly makes the root file system read-only.
	ReadOnly bool

	Args     []string
	Env      []string // complete, PATH and HOME included
	Cwd      string   // absolute; made if it is missing (as for a container)
	User     string   // as in an image's configuration: name or number, optional ":group"; "" is root
	Hostname string
	Mounts   []Mount // parents before children
	Network  Network

	ExtraHosts   []Host
	Ulimits      []Ulimit
	ShmSize      int64 // bytes; 0 means 64 MiB
	CgroupParent string
	Resources    *Resources // nil means no limits
	Insecure     bool       // all capabilities, no seccomp profile, writable /sys
}

// Executor runs a step's process. It is implemented by the engine, over the runtime.
type Executor interface {
	// Run runs the process to its end, with nothing on stdin, and returns its exit code (128 + signal
	// where a signal ended it). An error means that it could not be run at all, or that ctx ended and it
	// was killed; a command that does not exist is no error but exit code 127 (126: not executable) with
	// a sentence on stderr.
	Run(ctx context.Context, spec ExecSpec, stdout, stderr io.Writer) (exit int, err error)
}
