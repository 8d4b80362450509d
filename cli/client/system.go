package client

import (
	"context"
	"net/url"
)

// Info is what an engine says of itself; only the parts that are printed.
type Info struct {
	ID                string
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Driver            string
	DriverStatus      [][2]string
	SystemStatus      [][2]string `json:",omitempty"`
	Plugins           struct{ Volume, Network, Authorization, Log []string }
	MemoryLimit       bool
	SwapLimit         bool
	CPUCfsPeriod      bool `json:"CpuCfsPeriod"`
	CPUCfsQuota       bool `json:"CpuCfsQuota"`
	CPUShares         bool
	CPUSet            bool
	PidsLimit         bool
	IPv4Forwarding    bool
	Debug             bool
	NFd               int
	OomKillDisable    bool
	NGoroutines       int
	SystemTime        string
	LoggingDriver     string
	CgroupDriver      string
	CgroupVersion     string `json:",omitempty"`
	NEventsListener   int
	KernelVersion     string
	OperatingSystem   string
	OSVersion         string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          int64
	DockerRootDir     string
	HTTPProxy         string `json:"HttpProxy"`
	HTTPSProxy        string `json:"HttpsProxy"`
	NoProxy           string
	Name              string
	Labels            []string
	ExperimentalBuild bool
	ServerVersion     string
	Runtimes          map[string]struct {
		Path string `json:"path,omitempty"`
	}
	DefaultRuntime     string
	LiveRestoreEnabled bool
	InitBinary         string
	SecurityOptions    []string
	Warnings           []string
}

// Version is what an engine says of its version.
type Version struct {
	Platform      struct{ Name string } `json:",omitempty"`
	Version       string
	APIVersion    string `json:"ApiVersion"`
	MinAPIVersion string `json:"MinAPIVersion,omitempty"`
	Os            string
	Arch          string
	Components    []ComponentVersion `json:",omitempty"`
	GitCommit     string             `json:",omitempty"`
	GoVersion     string             `json:",omitempty"`
	KernelVersion string             `json:",omitempty"`
	Experimental  bool               `json:",omitempty"`
	BuildTime     string             `json:",omitempty"`
}

// ComponentVersion is a part of the engine.
type ComponentVersion struct {
	Name    string
	Version string
	Details map[string]string `json:",omitempty"`
}

// DiskUsage is what takes space, in the shape of API versions below 1.52. Sizes are in bytes.
type DiskUsage struct {
	LayersSize int64
	Images     []*ImageSummary
	Containers []*ContainerSummary
	Volumes    []*Volume
	BuildCache []*BuildCacheRecord
}

// BuildCacheRecord is a record of the build cache.
type BuildCacheRecord struct {
	ID          string
	Type        string
	Description string
	InUse       bool
	Shared      bool
	Size        int64
	CreatedAt   string
	LastUsedAt  *string
	UsageCount  int
}

// EngineVersion asks for the engine's version.
func (c *Client) EngineVersion(ctx context.Context) (Version, error) {
	var out Version
	err := c.Call(ctx, "GET", "/version", nil, nil, &out)
	return out, err
}

// DiskUsage asks what takes space.
func (c *Client) DiskUsage(ctx context.Context) (DiskUsage, error) {
	var out DiskUsage
	err := c.Call(ctx, "GET", "/system/df", nil, nil, &out)
	return out, err
}

// Pruned is what a prune removed; each kind of prune fills its own list.
type Pruned struct {
	ContainersDeleted []string
	ImagesDeleted     []ImageDeleted
	NetworksDeleted   []string
	VolumesDeleted    []string
	CachesDeleted     []string
	SpaceReclaimed    uint64 // bytes
}

// Prune removes what is unused; kind is "containers", "images", "networks", "volumes" or "build".
func (c *Client) Prune(ctx context.Context, kind string, q url.Values) (Pruned, error) {
	var out Pruned
	err := c.Call(ctx, "POST", "/"+kind+"/prune", q, nil, &out)
	return out, err
}
