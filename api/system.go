package api

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/berth-engine/berth/build"
	"github.com/berth-engine/berth/engine"
	"github.com/berth-engine/berth/registry"
	buildtypes "github.com/moby/moby/api/types/build"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	registrytypes "github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	dockervolume "github.com/moby/moby/api/types/volume"
)

func (s *Server) ping(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Builder-Version", "1") // the classic way; BuildKit's sessions come with the builder's own API
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Swarm", "inactive")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodGet {
		_, _ = w.Write([]byte("OK")) // the client has gone
	}
	return nil
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) error {
	i, err := s.engine.Info(r.Context())
	if err != nil {
		return err
	}
	details := map[string]string{"ApiVersion": newest.String(), "MinAPIVersion": s.min.String(), "Os": runtime.GOOS, "Arch": runtime.GOARCH, "KernelVersion": i.Kernel, "GoVersion": runtime.Version()}
	return answer(w, http.StatusOK, system.VersionResponse{
		Platform: system.PlatformInfo{Name: "Berth"}, Version: s.opts.Version, APIVersion: newest.String(), MinAPIVersion: s.min.String(),
		Os: runtime.GOOS, Arch: runtime.GOARCH, KernelVersion: i.Kernel, GoVersion: runtime.Version(),
		Components: []system.ComponentVersion{{Name: "Engine", Version: s.opts.Version, Details: details}},
	})
}

func (s *Server) info(w http.ResponseWriter, r *http.Request) error {
	i, err := s.engine.Info(r.Context())
	if err != nil {
		return err
	}
	version, driverName := "1", "cgroupfs"
	if i.CgroupV2 {
		version = "2"
	}
	options := []string{}
	if i.Seccomp {
		options = append(options, "name=seccomp,profile=builtin")
	}
	if i.AppArmor {
		options = append(options, "name=apparmor")
	}
	options = append(options, "name=cgroupns")
	out := system.Info{
		ID: i.ID, Containers: i.Running + i.Paused + i.Stopped, ContainersRunning: i.Running, ContainersPaused: i.Paused, ContainersStopped: i.Stopped,
		Images: i.Images, Driver: driver, DriverStatus: i.Storage, LoggingDriver: "json-file", CgroupDriver: driverName, CgroupVersion: version,
		Plugins:     system.PluginsInfo{Volume: []string{"local"}, Network: []string{"bridge", "host", "null"}, Log: []string{"json-file", "local", "none"}},
		MemoryLimit: true, SwapLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true, IPv4Forwarding: true, OomKillDisable: !i.CgroupV2,
		Debug: s.log.Enabled(r.Context(), slog.LevelDebug), NFd: openFiles(), NEventsListener: s.engine.Events().Subscribers(),
		NGoroutines: runtime.NumGoroutine(), SystemTime: time.Now().Format(time.RFC3339Nano), KernelVersion: i.Kernel, OperatingSystem: i.OperatingSystem,
		OSType: "linux", Architecture: machineName(), NCPU: i.CPUs, MemTotal: i.Memory, DockerRootDir: i.DataRoot, Name: i.Hostname, ServerVersion: s.opts.Version,
		Runtimes: map[string]system.RuntimeWithStatus{defaultRuntime: {Runtime: system.Runtime{Path: i.Runtime}}}, DefaultRuntime: defaultRuntime,
		Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive}, LiveRestoreEnabled: true, InitBinary: defaultRuntime, SecurityOptions: options,
		IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: &registrytypes.ServiceConfig{IndexConfigs: map[string]*registrytypes.IndexInfo{}},
		HTTPProxy: os.Getenv("HTTP_PROXY"), HTTPSProxy: os.Getenv("HTTPS_PROXY"), NoProxy: os.Getenv("NO_PROXY"), Labels: []string{}, Warnings: i.Warnings,
	}
	return answer(w, http.StatusOK, out)
}

// openFiles is how many descriptors this program has; -1 where it cannot be known.
func openFiles() int {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(fds) - 1 // but for that of the directory
}

// machineName is uname's word for the architecture.
func machineName() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

func (s *Server) auth(w http.ResponseWriter, r *http.Request) error {
	var in registrytypes.AuthConfig
	if err := decode(r, &in); err != nil {
		return err
	}
	host := registry.RegistryName(in.ServerAddress)
	token, err := s.engine.Login(r.Context(), host, credential(in))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, registrytypes.AuthResponse{Status: "Login Succeeded", IdentityToken: token})
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "config", "container", "daemon", "event", "image", "label", "label!", "network", "node", "plugin", "scope", "secret", "service", "type", "volume")
	if err != nil {
		return err
	}
	q := r.URL.Query()
	since, err := moment(q.Get("since"))
	if err != nil {
		return err
	}
	until, err := moment(q.Get("until"))
	if err != nil {
		return err
	}
	past, news, cancel := s.engine.Events().Subscribe()
	defer cancel()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush := func() { _ = http.NewResponseController(w).Flush() } // the client has gone
	flush()
	send := func(ev engine.Event) {
		if matchesEvent(f, ev) {
			_ = json.NewEncoder(w).Encode(eventMessage(ev))
			flush()
		}
	}
	if !since.IsZero() {
		for _, ev := range past {
			if !ev.Time.Before(since) && (until.IsZero() || !ev.Time.After(until)) {
				send(ev)
			}
		}
	}
	var end <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		end = t.C
	}
	for {
		select {
		case ev := <-news:
			send(ev)
		case <-end:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}

func matchesEvent(f filters, ev engine.Event) bool {
	of := func(kind string) bool {
		return f.any(kind, func(v string) bool {
			return ev.Type == kind && (ev.ID == v || ev.Attributes["name"] == v || len(v) >= 4 && len(ev.ID) > len(v) && ev.ID[:len(v)] == v)
		})
	}
	return f.exactly("type", ev.Type) && f.any("event", func(v string) bool { return ev.Action == v || len(ev.Action) > len(v) && ev.Action[:len(v)+1] == v+":" }) &&
		f.labels(ev.Attributes) && f.exactly("scope", "local") && of("container") && of("image") && of("volume") && of("network") && of("daemon")
}

// eventMessage has the fields of older versions ("status", "id", "from") beside the newest's.
func eventMessage(ev engine.Event) any {
	m := events.Message{
		Type: events.Type(ev.Type), Action: events.Action(ev.Action), Actor: events.Actor{ID: ev.ID, Attributes: ev.Attributes},
		Scope: "local", Time: ev.Time.Unix(), TimeNano: ev.Time.UnixNano(),
	}
	if ev.Type != "container" && ev.Type != "image" {
		return m
	}
	return struct {
		Status string `json:"status,omitempty"`
		ID     string `json:"id,omitempty"`
		From   string `json:"from,omitempty"`
		events.Message
	}{ev.Action, ev.ID, ev.Attributes["image"], m}
}

func (s *Server) diskUsage(w http.ResponseWriter, r *http.Request) error {
	u, err := s.engine.Usage(r.Context())
	if err != nil {
		return err
	}
	types := r.URL.Query()["type"]
	wanted := func(kind system.DiskUsageObject) bool {
		for _, t := range types {
			if t == string(kind) {
				return true
			}
		}
		return len(types) == 0
	}
	var d usage
	if wanted(system.ImageObject) {
		d.images(u)
	}
	if wanted(system.ContainerObject) {
		d.containers(s, u)
	}
	if wanted(system.VolumeObject) {
		d.volumes(s, u)
	}
	if wanted(system.BuildCacheObject) {
		d.build(u)
	}
	if versionOf(r).before(52) {
		return answer(w, http.StatusOK, d.before52(u))
	}
	if !truth(r.URL.Query(), "verbose", false) {
		d.withoutItems()
	}
	return answer(w, http.StatusOK, d.DiskUsage)
}

// usage is a DiskUsage that is being put together.
type usage struct{ system.DiskUsage }

func (d *usage) images(u engine.Usage) {
	out := &image.DiskUsage{TotalSize: u.LayersSize, Items: []image.Summary{}}
	for _, i := range u.Images {
		sum := summarize(i)
		sum.SharedSize = u.SharedOf(sum.ID)
		out.Items = append(out.Items, *sum)
		out.TotalCount++
		if i.Containers > 0 {
			out.ActiveCount++
		} else {
			out.Reclaimable += i.Size - sum.SharedSize
		}
	}
	d.ImageUsage = out
}

func (d *usage) containers(s *Server, u engine.Usage) {
	out := &dockercontainer.DiskUsage{Items: []dockercontainer.Summary{}}
	for _, c := range u.Containers {
		sum := s.summary(c)
		sum.SizeRw = u.Written[c.ID]
		out.Items = append(out.Items, *sum)
		out.TotalCount++
		out.TotalSize += sum.SizeRw
		if c.State.Status.Active() {
			out.ActiveCount++
		} else {
			out.Reclaimable += sum.SizeRw
		}
	}
	d.ContainerUsage = out
}

func (d *usage) volumes(s *Server, u engine.Usage) {
	out := &dockervolume.DiskUsage{Items: []dockervolume.Volume{}}
	for _, v := range u.Volumes {
		shown := s.showVolume(v.Volume)
		shown.UsageData = &dockervolume.UsageData{Size: v.Size, RefCount: int64(v.Users)} // its lack makes `system df` fail
		out.Items = append(out.Items, shown)
		out.TotalCount++
		out.TotalSize += v.Size
		if v.Users > 0 {
			out.ActiveCount++
		} else {
			out.Reclaimable += v.Size
		}
	}
	d.VolumeUsage = out
}

func (d *usage) build(u engine.Usage) {
	out := &buildtypes.DiskUsage{Items: []buildtypes.CacheRecord{}}
	for _, e := range u.Build.Entries {
		used := e.LastUsed
		out.Items = append(out.Items, buildtypes.CacheRecord{
			ID: e.ID, Type: e.Type, Description: e.Description, InUse: e.InUse, Size: e.Bytes, CreatedAt: e.Created, LastUsedAt: &used,
		})
		out.TotalCount++
		out.TotalSize += e.Bytes
		if e.InUse {
			out.ActiveCount++
		} else {
			out.Reclaimable += e.Bytes
		}
	}
	d.BuildCacheUsage = out
}

func (d *usage) withoutItems() {
	if d.ImageUsage != nil {
		d.ImageUsage.Items = nil
	}
	if d.ContainerUsage != nil {
		d.ContainerUsage.Items = nil
	}
	if d.VolumeUsage != nil {
		d.VolumeUsage.Items = nil
	}
	if d.BuildCacheUsage != nil {
		d.BuildCacheUsage.Items = nil
	}
}

// before52 is the form that the API had before 1.52.
func (d *usage) before52(u engine.Usage) any {
	var out struct {
		LayersSize  int64
		Images      []image.Summary
		Containers  []dockercontainer.Summary
		Volumes     []dockervolume.Volume
		BuildCache  []buildtypes.CacheRecord
		BuilderSize int64
	}
	if d.ImageUsage != nil {
		out.LayersSize, out.Images = u.LayersSize, d.ImageUsage.Items
	}
	if d.ContainerUsage != nil {
		out.Containers = d.ContainerUsage.Items
	}
	if d.VolumeUsage != nil {
		out.Volumes = d.VolumeUsage.Items
	}
	if d.BuildCacheUsage != nil {
		out.BuildCache = d.BuildCacheUsage.Items
	}
	return out
}

func (s *Server) pruneBuild(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private", "label", "label!")
	if err != nil {
		return err
	}
	if !f.labels(nil) { // the cache has no labels; `system prune` sends its filters here, too
		return answer(w, http.StatusOK, buildtypes.CachePruneReport{})
	}
	o := build.PruneOptions{All: truth(r.URL.Query(), "all", false)}
	for _, name := range []string{"until", "unused-for"} {
		for v := range f[name] {
			if o.OlderThan, err = time.ParseDuration(v); err != nil {
				return invalid(fmt.Sprintf("invalid filter '%s=%s': expected a duration, as in 24h", name, v))
			}
		}
	}
	p, err := s.engine.PruneBuild(r.Context(), o)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, buildtypes.CachePruneReport{CachesDeleted: p.Deleted, SpaceReclaimed: uint64(p.Reclaimed)})
}
