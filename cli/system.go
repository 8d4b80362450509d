package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/format"
)

// clientVersion is what `berth version` says of this program.
type clientVersion struct {
	Version    string
	APIVersion string `json:"ApiVersion"`
	GoVersion  string
	Os, Arch   string
	Context    string
}

type versions struct {
	Client clientVersion
	Server *client.Version
}

func setupVersion(a *App, c *cobra.Command) {
	var text string
	c.Use = "version [OPTIONS]"
	c.Example = "berth version -f '{{.Server.Version}}'"
	c.Args = nArgs(0, 0)
	c.Flags().StringVarP(&text, "format", "f", "", inspectFormatUsage)
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := versions{Client: clientVersion{
			Version: a.Version, APIVersion: client.APIVersion, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH, Context: "default",
		}}
		engine, err := a.client()
		if err == nil {
			var server client.Version
			if server, err = engine.EngineVersion(c.Context()); err == nil {
				v.Server = &server
				v.Client.APIVersion = engine.Version()
			}
		}
		if text != "" {
			if formatErr := format.Execute(a.Out, text, v); formatErr != nil {
				return formatErr
			}
			return err
		}
		if printErr := a.printVersions(v); printErr != nil {
			return printErr
		}
		return err
	}
}

func (a *App) printVersions(v versions) error {
	w := tabwriter.NewWriter(a.Out, 20, 1, 1, ' ', 0)
	line := func(indent, name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s%s:\t%s\n", indent, name, value)
		}
	}
	fmt.Fprintln(w, "Client:")
	line(" ", "Version", v.Client.Version)
	line(" ", "API version", v.Client.APIVersion)
	line(" ", "Go version", v.Client.GoVersion)
	line(" ", "OS/Arch", v.Client.Os+"/"+v.Client.Arch)
	line(" ", "Context", v.Client.Context)
	if s := v.Server; s != nil {
		fmt.Fprintln(w)
		fmt.Fprintln(w, strings.TrimSpace("Server: "+s.Platform.Name))
		fmt.Fprintln(w, " Engine:")
		line("  ", "Version", s.Version)
		api := s.APIVersion
		if s.MinAPIVersion != "" {
			api += " (minimum version " + s.MinAPIVersion + ")"
		}
		line("  ", "API version", api)
		line("  ", "Go version", s.GoVersion)
		line("  ", "Git commit", s.GitCommit)
		line("  ", "Built", s.BuildTime)
		line("  ", "OS/Arch", s.Os+"/"+s.Arch)
		line("  ", "Experimental", strconv.FormatBool(s.Experimental))
		for _, part := range s.Components {
			if part.Name != "Engine" {
				fmt.Fprintf(w, " %s:\n", part.Name)
				line("  ", "Version", part.Version)
				line("  ", "GitCommit", part.Details["GitCommit"])
			}
		}
	}
	return w.Flush()
}

func setupInfo(a *App, c *cobra.Command) {
	var text string
	c.Use = "info [OPTIONS]"
	c.Example = "berth info -f '{{.Driver}}'"
	c.Args = nArgs(0, 0)
	c.Flags().StringVarP(&text, "format", "f", "", inspectFormatUsage)
	c.RunE = func(c *cobra.Command, _ []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		raw, err := engine.Raw(c.Context(), "GET", "/info", nil)
		if err != nil {
			return err
		}
		o, info, err := decodeInfo(raw)
		if err != nil {
			return err
		}
		if text != "" {
			if text == "json" {
				text = "{{json .}}"
				o.Typed = nil // everything that the engine says, not only what this program knows
			}
			return format.Inspect(a.Out, text, []format.Object{o})
		}
		a.printInfo(info)
		return nil
	}
}

// decodeInfo reads the answer twice: as this program knows it, and as it is.
func decodeInfo(raw []byte) (format.Object, client.Info, error) {
	var info client.Info
	if err := json.Unmarshal(raw, &info); err != nil {
		return format.Object{}, info, fmt.Errorf("the engine's answer could not be read: %w", err)
	}
	return format.Object{Raw: raw, Typed: info}, info, nil
}

func (a *App) printInfo(info client.Info) {
	p := func(name string, value any) {
		if s := fmt.Sprint(value); s != "" {
			a.printf("%s: %s\n", name, s)
		}
	}
	a.printf("Client:\n")
	p(" Version", a.Version)
	p(" Context", "default")
	p(" Debug Mode", a.global.debug)
	a.printf("\nServer:\n")
	p(" Containers", info.Containers)
	p("  Running", info.ContainersRunning)
	p("  Paused", info.ContainersPaused)
	p("  Stopped", info.ContainersStopped)
	p(" Images", info.Images)
	p(" Server Version", info.ServerVersion)
	p(" Storage Driver", info.Driver)
	for _, s := range info.DriverStatus {
		p("  "+s[0], s[1])
	}
	for _, s := range info.SystemStatus {
		p(" "+s[0], s[1])
	}
	p(" Logging Driver", info.LoggingDriver)
	p(" Cgroup Driver", info.CgroupDriver)
	p(" Cgroup Version", info.CgroupVersion)
	a.printf(" Plugins:\n")
	p("  Volume", strings.Join(info.Plugins.Volume, " "))
	p("  Network", strings.Join(info.Plugins.Network, " "))
	p("  Log", strings.Join(info.Plugins.Log, " "))
	if len(info.Runtimes) > 0 {
		var names []string
		for n := range info.Runtimes {
			names = append(names, n)
		}
		p(" Runtimes", strings.Join(sorted(names), " "))
		p(" Default Runtime", info.DefaultRuntime)
	}
	p(" Init Binary", info.InitBinary)
	if len(info.SecurityOptions) > 0 {
		a.printf(" Security Options:\n")
		for _, o := range info.SecurityOptions {
			a.printSecurityOption(o)
		}
	}
	p(" Kernel Version", info.KernelVersion)
	p(" Operating System", info.OperatingSystem)
	p(" OSType", info.OSType)
	p(" Architecture", info.Architecture)
	p(" CPUs", info.NCPU)
	p(" Total Memory", units.BytesSize(float64(info.MemTotal)))
	p(" Name", info.Name)
	p(" ID", info.ID)
	p(" Berth Root Dir", info.DockerRootDir)
	p(" Debug Mode", info.Debug)
	if info.Debug || a.global.debug {
		p("  File Descriptors", info.NFd)
		p("  Goroutines", info.NGoroutines)
		p("  System Time", info.SystemTime)
		p("  EventsListeners", info.NEventsListener)
	}
	p(" HTTP Proxy", info.HTTPProxy)
	p(" HTTPS Proxy", info.HTTPSProxy)
	p(" No Proxy", info.NoProxy)
	if len(info.Labels) > 0 {
		a.printf(" Labels:\n  %s\n", strings.Join(info.Labels, "\n  "))
	}
	p(" Live Restore Enabled", info.LiveRestoreEnabled)
	for _, w := range info.Warnings {
		fmt.Fprintln(a.Err, w)
	}
}

// printSecurityOption writes "name=seccomp,profile=builtin" as Docker does.
func (a *App) printSecurityOption(o string) {
	for _, part := range strings.Split(o, ",") {
		switch name, value, ok := strings.Cut(part, "="); {
		case !ok:
			a.printf("  %s\n", part)
		case name == "name":
			a.printf("  %s\n", value)
		case name == "profile":
			a.printf("   Profile: %s\n", value)
		}
	}
}

func setupSystemDf(a *App, c *cobra.Command) {
	var text string
	var verbose bool
	c.Use = "df [OPTIONS]"
	c.Example = "berth system df"
	c.Args = nArgs(0, 0)
	c.Flags().StringVar(&text, "format", "", formatUsage)
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "Show detailed information on space usage")
	c.RunE = func(c *cobra.Command, _ []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		usage, err := engine.DiskUsage(c.Context())
		if err != nil {
			return err
		}
		if verbose {
			return a.printUsageVerbose(usage, text)
		}
		return format.List(a.Out, text, `{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}`, &usageRow{}, usageRows(usage))
	}
}

// usageRow is what one kind of things takes.
type usageRow struct {
	kind              string
	total, active     int
	size, reclaimable int64
	percent           bool
}

// Columns are Docker's.
func (r *usageRow) Columns() format.Header {
	return format.Header{"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}
}

func (r *usageRow) Type() string       { return r.kind }
func (r *usageRow) TotalCount() string { return strconv.Itoa(r.total) }
func (r *usageRow) Active() string     { return strconv.Itoa(r.active) }
func (r *usageRow) Size() string       { return shortSize(r.size) }

func (r *usageRow) Reclaimable() string {
	s := shortSize(r.reclaimable)
	if r.percent && r.size > 0 {
		s += fmt.Sprintf(" (%d%%)", r.reclaimable*100/r.size)
	}
	return s
}

func usageRows(u client.DiskUsage) []*usageRow {
	images := &usageRow{kind: "Images", total: len(u.Images), size: u.LayersSize, percent: true}
	used := int64(0)
	for _, i := range u.Images {
		if i.Containers > 0 {
			images.active++
			if i.Size != -1 && i.SharedSize != -1 {
				used += i.Size - i.SharedSize
			}
		}
	}
	images.reclaimable = max(u.LayersSize-used, 0)
	containers := &usageRow{kind: "Containers", total: len(u.Containers), percent: true}
	for _, c := range u.Containers {
		containers.size += c.SizeRw
		if active := c.State == "running" || c.State == "paused" || c.State == "restarting"; active {
			containers.active++
		} else {
			containers.reclaimable += c.SizeRw
		}
	}
	volumes := &usageRow{kind: "Local Volumes", total: len(u.Volumes), percent: true}
	for _, v := range u.Volumes {
		if v.UsageData == nil {
			continue
		}
		if v.UsageData.RefCount > 0 {
			volumes.active++
		}
		if v.UsageData.Size != -1 {
			volumes.size += v.UsageData.Size
			if v.UsageData.RefCount == 0 {
				volumes.reclaimable += v.UsageData.Size
			}
		}
	}
	cache := &usageRow{kind: "Build Cache", total: len(u.BuildCache)}
	for _, b := range u.BuildCache {
		if !b.Shared {
			cache.size += b.Size
		}
		if b.InUse {
			cache.active++
		} else if !b.Shared {
			cache.reclaimable += b.Size
		}
	}
	return []*usageRow{images, containers, volumes, cache}
}

func (a *App) printUsageVerbose(u client.DiskUsage, text string) error {
	now := time.Now()
	trunc := text == "" || text == "table"
	var images []*imageRow
	for _, i := range u.Images {
		row := &imageRow{image: *i, trunc: trunc, now: now, repo: "<none>", tag: "<none>", digest: "<none>"}
		if len(i.RepoTags) > 0 {
			if name, tag, _ := splitTag(i.RepoTags[0]); tag != "" {
				row.repo, row.tag = familiar(name), tag
			}
		}
		images = append(images, row)
	}
	var containers []*containerRow
	for _, c := range u.Containers {
		c.SizeRootFs = 0
		containers = append(containers, &containerRow{c: *c, trunc: trunc, now: now})
	}
	var volumes []*volumeRow
	for _, v := range u.Volumes {
		volumes = append(volumes, &volumeRow{*v})
	}
	sort.Slice(u.BuildCache, func(i, j int) bool { return u.BuildCache[i].Size < u.BuildCache[j].Size })
	var caches []*cacheRow
	for _, b := range u.BuildCache {
		caches = append(caches, &cacheRow{*b, trunc, now})
	}
	if !trunc {
		return format.Execute(a.Out, text, struct {
			Images     []*imageRow
			Containers []*containerRow
			Volumes    []*volumeRow
			BuildCache []*cacheRow
		}{images, containers, volumes, caches})
	}
	a.printf("Images space usage:\n\n")
	if err := format.List(a.Out, "", `{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}`, &imageRow{}, images); err != nil {
		return err
	}
	a.printf("\nContainers space usage:\n\n")
	if err := format.List(a.Out, "", `{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}`, &containerRow{}, containers); err != nil {
		return err
	}
	a.printf("\nLocal Volumes space usage:\n\n")
	if err := format.List(a.Out, "", `{{.Name}}\t{{.Links}}\t{{.Size}}`, &volumeRow{}, volumes); err != nil {
		return err
	}
	a.printf("\nBuild cache usage: %s\n\n", usageRows(u)[3].Size())
	return format.List(a.Out, "", `{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}`, &cacheRow{}, caches)
}

// cacheRow is a record of the build cache.
type cacheRow struct {
	b     client.BuildCacheRecord
	trunc bool
	now   time.Time
}

// Columns are Docker's.
func (r *cacheRow) Columns() format.Header {
	return format.Header{
		"ID": "CACHE ID", "CacheType": "CACHE TYPE", "Size": "SIZE", "CreatedSince": "CREATED", "LastUsedSince": "LAST USED",
		"UsageCount": "USAGE", "InUse": "IN USE", "Shared": "SHARED", "Description": "DESCRIPTION",
	}
}

func (r *cacheRow) ID() string {
	id := r.b.ID
	if r.trunc {
		id = format.ShortID(id)
	}
	if r.b.InUse {
		id += "*"
	}
	return id
}

func (r *cacheRow) CacheType() string    { return r.b.Type }
func (r *cacheRow) Size() string         { return shortSize(r.b.Size) }
func (r *cacheRow) CreatedSince() string { return r.ago(r.b.CreatedAt) }
func (r *cacheRow) UsageCount() string   { return strconv.Itoa(r.b.UsageCount) }
func (r *cacheRow) InUse() string        { return strconv.FormatBool(r.b.InUse) }
func (r *cacheRow) Shared() string       { return strconv.FormatBool(r.b.Shared) }
func (r *cacheRow) Description() string  { return r.b.Description }

func (r *cacheRow) LastUsedSince() string {
	if r.b.LastUsedAt == nil {
		return ""
	}
	return r.ago(*r.b.LastUsedAt)
}

func (r *cacheRow) ago(stamp string) string {
	t, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return ""
	}
	return format.Ago(t, r.now)
}

// shortSize is a size with four digits, as `system df` and `volume` have it.
func shortSize(n int64) string { return units.HumanSize(float64(n)) }
