package client

import (
	"context"
	"net/url"
	"strconv"
	"time"
)

// CreateRequest is the body of POST /containers/create.
type CreateRequest struct {
	*Config
	HostConfig       *HostConfig
	NetworkingConfig *NetworkingConfig
}

// Config is what a container takes along when it becomes an image.
type Config struct {
	Hostname        string
	Domainname      string
	User            string
	AttachStdin     bool
	AttachStdout    bool
	AttachStderr    bool
	ExposedPorts    map[string]struct{} `json:",omitempty"` // "80/tcp"
	Tty             bool
	OpenStdin       bool
	StdinOnce       bool
	Env             []string
	Cmd             []string
	Healthcheck     *HealthConfig `json:",omitempty"`
	ArgsEscaped     bool          `json:",omitempty"`
	Image           string
	Volumes         map[string]struct{} // anonymous volumes, by their path in the container
	WorkingDir      string
	Entrypoint      []string
	NetworkDisabled bool   `json:",omitempty"`
	MacAddress      string `json:",omitempty"`
	OnBuild         []string
	Labels          map[string]string
	StopSignal      string   `json:",omitempty"`
	StopTimeout     *int     `json:",omitempty"` // seconds
	Shell           []string `json:",omitempty"`
}

// HealthConfig says how to find out whether a container is well. Zero means the image's.
type HealthConfig struct {
	Test          []string      `json:",omitempty"` // {"NONE"}, {"CMD", args…} or {"CMD-SHELL", command}
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// HostConfig is what belongs to this machine: mounts, limits, rights.
type HostConfig struct {
	Binds           []string // "source:target[:options]"
	ContainerIDFile string
	LogConfig       LogConfig
	NetworkMode     string
	PortBindings    map[string][]PortBinding // by "80/tcp"
	RestartPolicy   RestartPolicy
	AutoRemove      bool
	VolumeDriver    string
	VolumesFrom     []string
	ConsoleSize     [2]uint           // height, width
	Annotations     map[string]string `json:",omitempty"`

	CapAdd          []string
	CapDrop         []string
	CgroupnsMode    string
	DNS             []string `json:"Dns"`
	DNSOptions      []string `json:"DnsOptions"`
	DNSSearch       []string `json:"DnsSearch"`
	ExtraHosts      []string // "name:address"
	GroupAdd        []string
	IpcMode         string
	Cgroup          string
	Links           []string
	OomScoreAdj     int
	PidMode         string
	Privileged      bool
	PublishAllPorts bool
	ReadonlyRootfs  bool
	SecurityOpt     []string
	StorageOpt      map[string]string `json:",omitempty"`
	Tmpfs           map[string]string `json:",omitempty"` // options by path
	UTSMode         string
	UsernsMode      string
	ShmSize         int64             // bytes
	Sysctls         map[string]string `json:",omitempty"`
	Runtime         string            `json:",omitempty"`

	Isolation string

	CPUShares            int64 `json:"CpuShares"`
	Memory               int64 // bytes
	NanoCPUs             int64 `json:"NanoCpus"` // 1e-9 cores
	CgroupParent         string
	BlkioWeight          uint16
	BlkioWeightDevice    []*WeightDevice
	BlkioDeviceReadBps   []*ThrottleDevice
	BlkioDeviceWriteBps  []*ThrottleDevice
	BlkioDeviceReadIOps  []*ThrottleDevice
	BlkioDeviceWriteIOps []*ThrottleDevice
	CPUPeriod            int64 `json:"CpuPeriod"`          // microseconds
	CPUQuota             int64 `json:"CpuQuota"`           // microseconds
	CPURealtimePeriod    int64 `json:"CpuRealtimePeriod"`  // microseconds
	CPURealtimeRuntime   int64 `json:"CpuRealtimeRuntime"` // microseconds
	CpusetCpus           string
	CpusetMems           string
	Devices              []DeviceMapping
	DeviceCgroupRules    []string
	DeviceRequests       []DeviceRequest
	MemoryReservation    int64 // bytes
	MemorySwap           int64 // bytes, memory included; -1: no limit
	MemorySwappiness     *int64
	OomKillDisable       *bool
	PidsLimit            *int64
	Ulimits              []*Ulimit
	CPUCount             int64 `json:"CpuCount"`
	CPUPercent           int64 `json:"CpuPercent"`
	IOMaximumIOps        uint64
	IOMaximumBandwidth   uint64

	Mounts        []Mount `json:",omitempty"`
	MaskedPaths   []string
	ReadonlyPaths []string
	Init          *bool `json:",omitempty"`
}

type (
	// LogConfig names a log driver and its options.
	LogConfig struct {
		Type   string
		Config map[string]string
	}
	// PortBinding is an address of the host; an empty HostPort means any.
	PortBinding struct {
		HostIP   string `json:"HostIp"`
		HostPort string
	}
	// RestartPolicy says when a container is started again.
	RestartPolicy struct {
		Name              string // "no", "always", "unless-stopped", "on-failure"
		MaximumRetryCount int
	}
	// WeightDevice is a relative weight (10 to 1000) for a device.
	WeightDevice struct {
		Path   string
		Weight uint16
	}
	// ThrottleDevice is a rate for a device, in bytes or operations per second.
	ThrottleDevice struct {
		Path string
		Rate uint64
	}
	// DeviceMapping is a device of the host in the container.
	DeviceMapping struct {
		PathOnHost        string
		PathInContainer   string
		CgroupPermissions string // of "rwm"
	}
	// DeviceRequest asks a driver for devices.
	DeviceRequest struct {
		Driver       string
		Count        int // -1: all
		DeviceIDs    []string
		Capabilities [][]string
		Options      map[string]string
	}
	// Ulimit is a resource limit; -1 means none.
	Ulimit struct {
		Name string
		Hard int64
		Soft int64
	}
)

// Mount is one --mount.
type Mount struct {
	Type          string         `json:",omitempty"` // "bind", "volume", "tmpfs", "image"
	Source        string         `json:",omitempty"`
	Target        string         `json:",omitempty"`
	ReadOnly      bool           `json:",omitempty"`
	Consistency   string         `json:",omitempty"`
	BindOptions   *BindOptions   `json:",omitempty"`
	VolumeOptions *VolumeOptions `json:",omitempty"`
	ImageOptions  *ImageOptions  `json:",omitempty"`
	TmpfsOptions  *TmpfsOptions  `json:",omitempty"`
}

type (
	// BindOptions are options of a bind mount.
	BindOptions struct {
		Propagation            string `json:",omitempty"`
		NonRecursive           bool   `json:",omitempty"`
		CreateMountpoint       bool   `json:",omitempty"`
		ReadOnlyNonRecursive   bool   `json:",omitempty"`
		ReadOnlyForceRecursive bool   `json:",omitempty"`
	}
	// VolumeOptions are options of a volume's mount.
	VolumeOptions struct {
		NoCopy       bool              `json:",omitempty"`
		Labels       map[string]string `json:",omitempty"`
		Subpath      string            `json:",omitempty"`
		DriverConfig *VolumeDriver     `json:",omitempty"`
	}
	// VolumeDriver names a volume driver and its options.
	VolumeDriver struct {
		Name    string            `json:",omitempty"`
		Options map[string]string `json:",omitempty"`
	}
	// ImageOptions are options of an image's mount.
	ImageOptions struct {
		Subpath string `json:",omitempty"`
	}
	// TmpfsOptions are options of a tmpfs.
	TmpfsOptions struct {
		SizeBytes int64      `json:",omitempty"`
		Mode      uint32     `json:",omitempty"` // permission bits
		Options   [][]string `json:",omitempty"`
	}
)

// NetworkingConfig says how the container takes part in networks, by their names.
type NetworkingConfig struct {
	EndpointsConfig map[string]*Endpoint
}

// Endpoint is a container's place in a network: what was asked for, and in answers what it got.
type Endpoint struct {
	IPAMConfig          *EndpointIPAM
	Links               []string
	Aliases             []string
	MacAddress          string
	DriverOpts          map[string]string
	GwPriority          int
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	DNSNames            []string
}

// EndpointIPAM asks for addresses.
type EndpointIPAM struct {
	IPv4Address  string   `json:",omitempty"`
	IPv6Address  string   `json:",omitempty"`
	LinkLocalIPs []string `json:",omitempty"`
}

// Created is the answer to a create.
type Created struct {
	ID       string `json:"Id"`
	Warnings []string
}

// ContainerSummary is one container in a list.
type ContainerSummary struct {
	ID         string `json:"Id"`
	Names      []string
	Image      string
	ImageID    string
	Command    string
	Created    int64 // seconds since 1970
	Ports      []Port
	SizeRw     int64 `json:",omitempty"` // bytes
	SizeRootFs int64 `json:",omitempty"` // bytes
	Labels     map[string]string
	State      string
	Status     string
	Mounts     []MountPoint
	// NetworkSettings has only the networks, by their names.
	NetworkSettings *struct {
		Networks map[string]*Endpoint
	}
	ImageManifestDescriptor *Descriptor `json:",omitempty"`
}

type (
	// Port is a port of a container, published when PublicPort is set.
	Port struct {
		IP          string `json:",omitempty"`
		PrivatePort uint16
		PublicPort  uint16 `json:",omitempty"`
		Type        string
	}
	// MountPoint is a mount as a container has it.
	MountPoint struct {
		Type        string `json:",omitempty"`
		Name        string `json:",omitempty"`
		Source      string
		Destination string
		Driver      string `json:",omitempty"`
		Mode        string
		RW          bool
		Propagation string
	}
)

// Container is the answer to an inspect.
type Container struct {
	ID                      string `json:"Id"`
	Created                 string
	Path                    string
	Args                    []string
	State                   *State
	Image                   string
	ResolvConfPath          string
	HostnamePath            string
	HostsPath               string
	LogPath                 string
	Name                    string
	RestartCount            int
	Driver                  string
	Platform                string
	MountLabel              string
	ProcessLabel            string
	AppArmorProfile         string
	ExecIDs                 []string
	HostConfig              *HostConfig
	GraphDriver             *GraphDriver `json:",omitempty"`
	SizeRw                  *int64       `json:",omitempty"`
	SizeRootFs              *int64       `json:",omitempty"`
	Mounts                  []MountPoint
	Config                  *Config
	NetworkSettings         *NetworkSettings
	ImageManifestDescriptor *Descriptor `json:",omitempty"`
}

type (
	// State says what a container is doing.
	State struct {
		Status     string
		Running    bool
		Paused     bool
		Restarting bool
		OOMKilled  bool
		Dead       bool
		Pid        int
		ExitCode   int
		Error      string
		StartedAt  string
		FinishedAt string
		Health     *Health `json:",omitempty"`
	}
	// Health is what the health checks found.
	Health struct {
		Status        string
		FailingStreak int
		Log           []*HealthResult
	}
	// HealthResult is one health check.
	HealthResult struct {
		Start    time.Time
		End      time.Time
		ExitCode int
		Output   string
	}
	// GraphDriver names where an image or container is stored.
	GraphDriver struct {
		Data map[string]string
		Name string
	}
	// NetworkSettings has the fields of API versions below 1.52 too, which templates rely on.
	NetworkSettings struct {
		Bridge                 string
		SandboxID              string
		SandboxKey             string
		Ports                  map[string][]PortBinding
		HairpinMode            bool
		LinkLocalIPv6Address   string
		LinkLocalIPv6PrefixLen int
		EndpointID             string
		Gateway                string
		GlobalIPv6Address      string
		GlobalIPv6PrefixLen    int
		IPAddress              string
		IPPrefixLen            int
		IPv6Gateway            string
		MacAddress             string
		Networks               map[string]*Endpoint
	}
)

// ContainerCreate creates a container. An empty name lets the engine choose.
func (c *Client) ContainerCreate(ctx context.Context, name, platform string, req CreateRequest) (Created, error) {
	q := url.Values{}
	setNonEmpty(q, "name", name)
	setNonEmpty(q, "platform", platform)
	var out Created
	err := c.Call(ctx, "POST", "/containers/create", q, req, &out)
	return out, err
}

// ContainerList lists containers; q has Docker's all, limit, size, filters.
func (c *Client) ContainerList(ctx context.Context, q url.Values) ([]ContainerSummary, error) {
	var out []ContainerSummary
	err := c.Call(ctx, "GET", "/containers/json", q, nil, &out)
	return out, err
}

// Container inspects one.
func (c *Client) Container(ctx context.Context, name string) (Container, error) {
	var out Container
	err := c.Call(ctx, "GET", containerPath(name, "/json"), nil, nil, &out)
	return out, err
}

// ContainerDo posts one of the actions without an answer: start, stop, restart, kill, pause, unpause,
// rename, resize.
func (c *Client) ContainerDo(ctx context.Context, name, action string, q url.Values) error {
	return c.Call(ctx, "POST", containerPath(name, "/"+action), q, nil, nil)
}

// ContainerRemove removes one; q has Docker's v, force, link.
func (c *Client) ContainerRemove(ctx context.Context, name string, q url.Values) error {
	return c.Call(ctx, "DELETE", containerPath(name, ""), q, nil, nil)
}

// Wait is a wait that the engine has begun.
type Wait struct {
	resp *Response
}

// ContainerWait begins to wait for condition ("not-running", "next-exit", "removed") and returns as
// soon as the engine does so too: what happens afterwards is not missed. The caller calls Result or
// Close.
func (c *Client) ContainerWait(ctx context.Context, name, condition string) (*Wait, error) {
	q := url.Values{}
	setNonEmpty(q, "condition", condition)
	resp, err := c.Do(ctx, Request{Method: "POST", Path: containerPath(name, "/wait"), Query: q})
	if err != nil {
		return nil, err
	}
	return &Wait{resp}, nil
}

// Close gives the waiting up.
func (w *Wait) Close() { _ = w.resp.Body.Close() }

// ContainerResize tells the size of the terminal.
func (c *Client) ContainerResize(ctx context.Context, name string, height, width uint16) error {
	return c.ContainerDo(ctx, name, "resize", sizeQuery(height, width))
}

func sizeQuery(height, width uint16) url.Values {
	return url.Values{"h": {strconv.Itoa(int(height))}, "w": {strconv.Itoa(int(width))}}
}

func containerPath(name, rest string) string {
	return "/containers/" + url.PathEscape(name) + rest
}

func setNonEmpty(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}
