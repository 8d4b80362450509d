package runtime

import (
	"net/netip"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-engine/berth/runtime/seccomp"
)

// Options say how a Launcher works. They are the same for every container of an engine.
type Options struct {
	// Program is the path of berth-runtime.
	Program string
	// ExecRoot is the engine's run-time directory; warm slots keep their files below it.
	ExecRoot string
	// CgroupParent is the cgroup (a path below the hierarchy's root, as in "/berth") below which containers
	// whose specification names no cgroup are put, "/berth" if empty. Shims go to CgroupParent/shims:
	// outside the engine's own unit, outside every container.
	CgroupParent string
	// Slots is the number of warm slots to keep: shims with a half-started child that wait for a container. 0: none.
	Slots int
	// Busy tells whether a container is being started, beside which nothing is made ahead; nil: never.
	Busy func() bool
}

// Config is one container's start. The caller keeps all files and closes them after Start returned.
type Config struct {
	// ID names the container (64 hex digits, but any OCI id will do), Dir is its run-time directory,
	// which the caller has made (EXEC-ROOT/containers/ID) and removes after the end. The shim's socket,
	// its exit record and its own messages (a crash) are in it.
	ID, Dir string
	// Spec is the OCI configuration. Root.Path is not used when Root (below) is given. Linux.Seccomp is
	// compiled by Start, unless Filter is given.
	Spec *specs.Spec
	// Root is the root file system as a detached mount.
	Root *os.File
	// Mounts are detached trees for entries of Spec.Mounts, by destination. Entries without one are
	// mounted as the specification says.
	Mounts []Mount
	// NetNS is the network namespace; nil: as the specification says.
	NetNS *os.File
	// Filter is a compiled seccomp filter (seccomp.Compile), so that one that is used often is compiled
	// once. nil: Spec.Linux.Seccomp is compiled.
	Filter *seccomp.Program
	// Stdin says what the process reads. With Spec.Process.Terminal it is the terminal in any case.
	Stdin Stdin
	// Log is where output goes beside the attached streams.
	Log Log
	// Listeners are the published ports. The shim accepts on them and proxies to the container.
	Listeners []Listener
	// Attach, if not nil, attaches a stream before the process starts: nothing of the output is missed.
	// It is had by Shim.Attached.
	Attach *AttachOptions
	// Init puts a small init (reaper, signal forwarder) before the process.
	Init bool
}

// Mount is a detached tree for the mount at Destination in the container, which has been made with its options.
type Mount struct {
	Destination string
	Tree        *os.File
}

// Stdin says what the container's process reads.
type Stdin int

const (
	// StdinNone is /dev/null.
	StdinNone Stdin = iota
	// StdinOnce is a pipe that ends when an attached stream closes its stdin (CloseWrite).
	StdinOnce
	// StdinOpen is a pipe that outlives attached streams: their CloseWrite is no end of it.
	StdinOpen
)

// Log says where the shim writes output, in Docker's json-file format (internal/jsonlog).
type Log struct {
	Path     string // empty: no log
	MaxSize  int64  // bytes after which the file is rotated; 0: jsonlog.DefaultMaxSize, < 0: never
	MaxFiles int    // files kept, the current one included; 0: jsonlog.DefaultMaxFiles
}

// Listener is a socket on the host (listening tcp, bound udp) and where in the container what arrives there goes.
type Listener struct {
	Socket *os.File
	Proto  string // "tcp" or "udp"
	To     netip.AddrPort
}

// Size is a terminal's size in characters.
type Size struct{ Height, Width uint16 }

// Exit says how a process ended.
type Exit struct {
	Status    int       // as a shell says it: the exit code, or 128 + signal
	At        time.Time // when
	OOMKilled bool      // the kernel killed something of the container for want of memory
	Lost      bool      // the shim was lost and the container killed by its cgroup; Status is 137
	LogEnd    LogEnd    // how much of a log there is
}

// LogEnd counts what became of the output that went to the log.
type LogEnd struct {
	Offset  int64 // bytes in the current file
	Dropped int64 // lines that were lost because the disk was full
}

// State is what a shim says of its container.
type State struct {
	ID        string
	Pid       int // of the container's first process, in the engine's pid namespace; 0 after it ended
	Started   time.Time
	Exited    *Exit // nil while it runs
	Terminal  bool
	OpenStdin bool // stdin can still be written
	Execs     int  // processes that were added and still run
	Protocol  int
}
