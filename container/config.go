package container

import (
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
)

// Config is what was asked for, defaults of the image and of the engine filled in. It doesn't change
// after create.
type Config struct {
	Image   string        // as the user named it
	ImageID digest.Digest // what that meant at create
	// Layers of the image, lowest first: a container outlives its image's record.
	Layers []digest.Digest
	// Platform32 is set for images of 32-bit platforms, which want inode numbers that fit.
	Platform32 bool `json:",omitempty"`

	Process   Process
	Isolation Isolation
	Resources Resources
	Mounts    []Mount
	Network   Network

	Labels      map[string]string `json:",omitempty"`
	Healthcheck *Healthcheck      `json:",omitempty"`
	Restart     RestartPolicy
	AutoRemove  bool `json:",omitempty"`
	Log         LogConfig

	// Asked is the request as the API got it. It is opaque here: inspect echoes it.
	Asked json.RawMessage `json:",omitempty"`
}

// Process is what runs.
type Process struct {
	Entrypoint, Cmd []string // the command line is one after the other; ArgsEscaped images don't exist on Linux
	Env             []string // NAME=value; the image's first
	User            string   // name or uid, optionally with :group; resolved in the rootfs at start
	Groups          []string // additional groups, by name or gid
	WorkingDir      string   // absolute; made at start where it is missing
	TTY             bool     `json:",omitempty"`
	OpenStdin       bool     `json:",omitempty"`
	StdinOnce       bool     `json:",omitempty"`
	AttachStdin     bool     `json:",omitempty"`
	AttachStdout    bool     `json:",omitempty"`
	AttachStderr    bool     `json:",omitempty"`
	Init            bool     `json:",omitempty"`
	StopSignal      string   `json:",omitempty"` // "" means SIGTERM
	StopTimeout     *int     `json:",omitempty"` // seconds; nil: 10
	Rlimits         []Rlimit `json:",omitempty"`
	OOMScoreAdj     int      `json:",omitempty"`
	ConsoleHeight   uint16   `json:",omitempty"` // characters; 0: not known
	ConsoleWidth    uint16   `json:",omitempty"`
}

// Args is the command line.
func (p *Process) Args() []string { return append(append([]string(nil), p.Entrypoint...), p.Cmd...) }

// Rlimit is one of setrlimit(2), by its name without RLIMIT_, in lower case.
type Rlimit struct {
	Name       string
	Soft, Hard uint64
}

// Isolation is what separates the process from the host.
type Isolation struct {
	Privileged      bool     `json:",omitempty"`
	CapAdd, CapDrop []string `json:",omitempty"` // with CAP_, or "ALL"
	NoNewPrivileges bool     `json:",omitempty"`
	// Seccomp is "" for the default profile, "unconfined", or a profile's JSON.
	Seccomp  string `json:",omitempty"`
	AppArmor string `json:",omitempty"` // "" for the default where the kernel has AppArmor
	// What is hidden and what is read-only of /proc and /sys; nil: what Docker says, none: systempaths=unconfined. Of no
	// meaning with Privileged.
	MaskedPaths, ReadonlyPaths []string
	ReadonlyRootfs             bool              `json:",omitempty"`
	Devices                    []Device          `json:",omitempty"`
	DeviceRules                []string          `json:",omitempty"` // as in devices.allow: "c 1:3 rwm"
	Sysctls                    map[string]string `json:",omitempty"`
	PidMode                    string            `json:",omitempty"` // "", "host", "container:ID"
	IPCMode                    string            `json:",omitempty"` // "", "private", "shareable", "none", "host", "container:ID"
	UTSMode                    string            `json:",omitempty"` // "", "host"
	CgroupNamespace            string            `json:",omitempty"` // "", "private", "host"
	Runtime                    string            `json:",omitempty"` // "" is berth-runtime
}

// Device is a device of the host that the container has.
type Device struct {
	Host, Container, Permissions string // permissions: some of "rwm"
}

// Resources are limits; zero means none.
type Resources struct {
	Memory            int64  `json:",omitempty"` // bytes
	MemorySwap        int64  `json:",omitempty"` // bytes, memory included; -1: no limit
	MemoryReservation int64  `json:",omitempty"` // bytes
	MemorySwappiness  *int64 `json:",omitempty"` // 0 to 100
	OOMKillDisable    bool   `json:",omitempty"`
	NanoCPUs          int64  `json:",omitempty"` // 1e9 is one core
	CPUShares         int64  `json:",omitempty"`
	CPUPeriod         int64  `json:",omitempty"` // microseconds
	CPUQuota          int64  `json:",omitempty"` // microseconds
	CpusetCPUs        string `json:",omitempty"`
	CpusetMems        string `json:",omitempty"`
	PidsLimit         int64  `json:",omitempty"` // -1: no limit, as 0
	BlkioWeight       uint16 `json:",omitempty"`
	ShmSize           int64  `json:",omitempty"` // bytes; 0: 64 MiB
	CgroupParent      string `json:",omitempty"`
}

// Kinds of mounts.
const (
	BindMount   = "bind"
	VolumeMount = "volume"
	TmpfsMount  = "tmpfs"
)

// Mount is something that is mounted over the rootfs.
type Mount struct {
	Kind        string
	Source      string // bind: a path of the host; volume: its name
	Target      string // absolute, in the container
	ReadOnly    bool   `json:",omitempty"`
	Propagation string `json:",omitempty"` // bind: "rprivate" (default), "rshared", …
	NonRec      bool   `json:",omitempty"` // bind: without what is mounted below
	CreateHost  bool   `json:",omitempty"` // bind: a missing source is made (-v), not refused (--mount)
	NoCopy      bool   `json:",omitempty"` // volume: a new one doesn't get the image's content
	Anonymous   bool   `json:",omitempty"` // volume: made for this container, goes with it
	Subpath     string `json:",omitempty"` // volume: a directory of it
	// Labels of the volume, if it is made for this mount.
	Labels  map[string]string `json:",omitempty"`
	Size    int64             `json:",omitempty"` // tmpfs: bytes; 0: half the memory
	Mode    uint32            `json:",omitempty"` // tmpfs: permissions; 0: 1777
	Options string            `json:",omitempty"` // tmpfs: as --tmpfs PATH:OPTIONS has them
}

// Network says what the container sees of the network.
type Network struct {
	Mode       string // "bridge" or another network's name or ID, "none", "host", "container:ID"
	Hostname   string
	Domainname string     `json:",omitempty"`
	Endpoints  []Endpoint `json:",omitempty"` // what was asked of each network
	Exposed    []Port     `json:",omitempty"`
	Published  []Publish  `json:",omitempty"`
	PublishAll bool       `json:",omitempty"`
	DNS        []string   `json:",omitempty"`
	DNSSearch  []string   `json:",omitempty"`
	DNSOptions []string   `json:",omitempty"`
	ExtraHosts []string   `json:",omitempty"` // "name:address"; the address may be "host-gateway"
}

// Endpoint is what was asked of one network.
type Endpoint struct {
	Network string   // name or ID
	IPv4    string   `json:",omitempty"`
	IPv6    string   `json:",omitempty"`
	MAC     string   `json:",omitempty"`
	Aliases []string `json:",omitempty"`
}

// Port is a port of the container.
type Port struct {
	Number   uint16
	Protocol string // "tcp", "udp", "sctp"
}

// Publish makes a port reachable through the host.
type Publish struct {
	Port
	HostIP                string `json:",omitempty"` // "": every address
	HostPort, HostPortEnd uint16 // 0: any free one; a range: the first free one of it
}

// Healthcheck says how to find out whether the container does its work.
type Healthcheck struct {
	Test          []string      // ["CMD", …], ["CMD-SHELL", "…"], ["NONE"]
	Interval      time.Duration // 0: 30 s
	Timeout       time.Duration // 0: 30 s
	StartPeriod   time.Duration
	StartInterval time.Duration // 0: 5 s
	Retries       int           // 0: 3
}

// LogConfig says what becomes of the output.
type LogConfig struct {
	Driver   string // "json-file", "none"
	MaxSize  int64  // bytes of one file; 0: the engine's default
	MaxFiles int
	Options  map[string]string `json:",omitempty"`
}
