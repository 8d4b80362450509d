package protocol

import (
	"net/netip"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// PrepareRequest asks for a slot: a child that has played the first half of a start for a container that looks like Spec.
type PrepareRequest struct {
	Log    string // where last words go; "": where they went
	ID     string
	Spec   *specs.Spec
	Cgroup string // of the container, as runtime/cgroup names it
	// LateNetwork says that the network namespace comes with the StartRequest.
	LateNetwork bool
}

// StartRequest asks for a container.
type StartRequest struct {
	ID         string
	Dir        string // the container's run-time directory
	Spec       *specs.Spec
	Filter     []byte // compiled seccomp filter; empty: none
	FilterBits uint
	Init       bool
	Stdin      StdinMode
	Log        Log
	Files      Files
	Attach     *AttachRequest // of the stream whose socket is among the descriptors
}

// Files says which descriptors a StartRequest has, in this order.
type Files struct {
	Root      bool
	Mounts    []string // destinations
	NetNS     bool
	Listeners []Listener
	Stream    bool
}

// Count returns the number of descriptors.
func (f *Files) Count() int {
	n := len(f.Mounts) + len(f.Listeners)
	for _, b := range []bool{f.Root, f.NetNS, f.Stream} {
		if b {
			n++
		}
	}
	return n
}

// Listener is where the traffic of a listening socket goes.
type Listener struct {
	Proto string // "tcp", "udp"
	To    netip.AddrPort
}

// StdinMode says what the process reads.
type StdinMode int

// The modes: /dev/null, a pipe that ends when a stream says so, a pipe that does not.
const (
	StdinNone StdinMode = iota
	StdinOnce
	StdinOpen
)

// Log says where output is logged.
type Log struct {
	Path     string // "": nowhere
	MaxSize  int64
	MaxFiles int
}

// AttachRequest says what a stream carries.
type AttachRequest struct {
	Stdin, Stdout, Stderr bool
	DropWhenSlow          bool
}

// ExecRequest asks for another process in the container.
type ExecRequest struct {
	Process       *specs.Process
	Filter        []byte // nil: that of the container
	FilterBits    uint
	Attach        AttachRequest
	EndWithEngine bool
}

// SignalRequest asks for a signal.
type SignalRequest struct {
	Signal int
	All    bool // to every process of the cgroup; else the first one
}

// Size is a terminal's, in characters.
type Size struct{ Height, Width uint16 }

// StartedReply says that the process was executed.
type StartedReply struct {
	Pid int
	At  time.Time
}

// Failure is an error as it crosses: what was being done, on what, and how it failed.
type Failure struct {
	Step, Object string
	Errno        syscall.Errno // 0: see Detail
	Detail       string
	Exec         bool // the program itself could not be executed
	Gone         bool // what was asked for has ended
	NoTerminal   bool // a size was given to what has none
}

// ExitReport says how a process ended.
type ExitReport struct {
	Status     int // the exit code, or 128 + signal
	At         time.Time
	OOMKilled  bool
	LogOffset  int64
	LogDropped int64
	Lost       bool // the shim was lost; written by the engine
}

// State is what a shim says of its container.
type State struct {
	Version   int
	ID        string
	Pid       int
	Started   time.Time
	Cgroup    string
	Exited    *ExitReport
	Terminal  bool
	OpenStdin bool
	Execs     int
}
