package compile

import (
	"os"
	"syscall"

	"github.com/berth-engine/berth/runtime/cgroup"
	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Inputs is what a start needs beyond the configuration. Files stay the caller's, who keeps them open until
// Launch (or Finish) returned.
type Inputs struct {
	// Root is a descriptor of the detached mount (fsmount, open_tree) that becomes the container's root. nil:
	// spec.Root.Path, relative to Bundle, is bound.
	Root   *os.File
	Bundle string // directory that relative paths of the configuration start at

	// Mounts are detached mount trees that stand for the configuration's mounts with the same destination:
	// those entries' type and source are not looked at, their options still are (ro, propagation…).
	Mounts []Mount

	// Namespaces are descriptors to join, for types that the configuration lists; they take the place of its paths.
	Namespaces map[specs.LinuxNamespaceType]*os.File

	// LateNetwork says that a slot's network namespace, which the configuration lists, is joined in its second half:
	// Finish then needs its descriptor in Namespaces.
	LateNetwork bool

	// Cgroup is what the child joins before anything else; nil joins nothing.
	Cgroup *cgroup.Join

	// Stdio are the program's descriptors 0, 1 and 2; nil: what the caller has there. With a terminal they are
	// ignored.
	Stdio [3]*os.File
	// Console is a unix socket that is sent the pty's master (SCM_RIGHTS, data "/dev/ptmx") where
	// spec.Process.Terminal is set.
	Console *os.File
	// PreserveFDs is how many descriptors from 3 on the program gets.
	PreserveFDs int

	// Filter is the seccomp program (an array of struct sock_filter), empty: none. FilterFlags are
	// SECCOMP_FILTER_FLAG_*. FilterListener is a unix socket that is sent the listener (SCM_RIGHTS) with
	// FilterListenerData as data, where FilterFlags has NEW_LISTENER.
	Filter             []byte
	FilterFlags        uint
	FilterListener     *os.File
	FilterListenerData string

	// DeathSignal is what the program gets when the thread that called Launch ends; 0: nothing.
	DeathSignal syscall.Signal

	// Init makes process 1 a loop that reaps and forwards signals; the program is its child.
	Init bool

	// MakeCwd makes the working directory where it is missing.
	MakeCwd bool

	// NoNewKeyring keeps the caller's session keyring. Otherwise the program gets a new one.
	NoNewKeyring bool

	// Wait is a pipe or FIFO from which the child reads one byte before it executes the program ("create" of
	// the OCI command line), nil: it goes on at once.
	Wait *os.File
	// Done is a descriptor that closes when the child executes the program, or ends: with Wait, for whoever waits
	// for that; nil: nobody.
	Done *os.File
	// Record is a file that takes the script, so that whoever sends that byte can read why the start failed
	// (script.ReadFailure); nil: nobody asks.
	Record *os.File

	// Share lets the child play in the caller's memory until its execve, where that is safe: nothing is copied, but the
	// caller can't be looked at any more by others of its user (PR_SET_DUMPABLE counts for both), has the child's
	// oom_score_adj until Launch (of a slot: Finish) returns, and does not release the plan before that.
	Share bool

	// Host is what compiling needs to know of the machine; nil: this one is looked at.
	Host *Host

	// Created is called when all namespaces, mounts and devices are there and before the root is changed,
	// with the child's pid: for hooks of the runtime namespace. nil: nobody asks.
	Created func(pid int) error
	// State is the JSON that hooks inside the container read from their standard input, given the pid.
	State func(pid int) ([]byte, error)
}

// Mount is a detached mount tree for a destination of the configuration.
type Mount struct {
	Destination string
	Tree        *os.File
}

// Plan is a compiled start, or its first half.
type Plan struct {
	// Script is for printing (--dry-run) and for tests.
	Script *script.Script

	b      *builder
	child  *script.Child
	served int    // meeting points
	score  []byte // what ownScore had before the child; empty: it does not share our memory
}
