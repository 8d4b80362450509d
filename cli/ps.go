package cli

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/format"
)

type psOptions struct {
	all, latest, noTrunc, quiet, size bool
	last                              int
	format                            string
	filters                           filters
}

const (
	psTable     = `{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}`
	psTableSize = psTable + `\t{{.Size}}`
)

func setupPs(a *App, c *cobra.Command) {
	o := psOptions{filters: filters{}}
	c.Use = c.Name() + " [OPTIONS]"
	c.Example = "berth ps --filter status=exited --format '{{.ID}} {{.Names}}'"
	c.Args = nArgs(0, 0)
	fs := c.Flags()
	fs.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	filterFlag(fs, o.filters, filterUsage)
	fs.StringVar(&o.format, "format", "", formatUsage)
	fs.IntVarP(&o.last, "last", "n", -1, "Show n last created containers (includes all states)")
	fs.BoolVarP(&o.latest, "latest", "l", false, "Show the latest created container (includes all states)")
	fs.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Only display container IDs")
	fs.BoolVarP(&o.size, "size", "s", false, "Display total file sizes")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.ps(c.Context(), o, c.Flags().Changed("size")) }
}

func (a *App) ps(ctx context.Context, o psOptions, sizeGiven bool) error {
	q, err := o.filters.query()
	if err != nil {
		return err
	}
	if o.format == "" && !o.quiet {
		o.format = a.configuredFormat("psFormat")
	}
	setFlag(q, "all", o.all)
	if o.latest && o.last == -1 {
		o.last = 1
	}
	if o.last > -1 {
		q.Set("limit", strconv.Itoa(o.last))
	}
	if !sizeGiven { // counting takes the engine time, so only for those who look at it
		o.size = format.Uses(o.format, "Size")
	}
	setFlag(q, "size", o.size)
	engine, err := a.client()
	if err != nil {
		return err
	}
	list, err := engine.ContainerList(ctx, q)
	if err != nil {
		return err
	}
	return a.printContainers(list, o)
}

func (a *App) printContainers(list []client.ContainerSummary, o psOptions) error {
	now := time.Now()
	rows := make([]*containerRow, len(list))
	for i := range list {
		rows[i] = &containerRow{c: list[i], trunc: !o.noTrunc, now: now}
	}
	text, table := o.format, psTable
	if o.size {
		table = psTableSize
	}
	if o.quiet {
		text = "{{.ID}}"
	}
	return format.List(a.Out, text, table, &containerRow{}, rows)
}

// containerRow is a container as tables and templates see it.
type containerRow struct {
	c     client.ContainerSummary
	trunc bool
	now   time.Time
}

// Columns are Docker's.
func (r *containerRow) Columns() format.Header {
	return format.Header{
		"ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT", "RunningFor": "CREATED",
		"Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE", "Labels": "LABELS", "Mounts": "MOUNTS",
		"LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Platform": "PLATFORM",
	}
}

func (r *containerRow) ID() string {
	if r.trunc {
		return format.ShortID(r.c.ID)
	}
	return r.c.ID
}

func (r *containerRow) Names() string {
	var names []string
	for _, n := range r.c.Names {
		n = strings.TrimPrefix(n, "/")
		if r.trunc && strings.Contains(n, "/") {
			continue // the name that a link gave it
		}
		names = append(names, n)
	}
	if r.trunc && len(names) > 1 {
		names = names[:1]
	}
	return strings.Join(names, ",")
}

func (r *containerRow) Image() string {
	switch {
	case r.c.Image == "":
		return "<no image>"
	case !r.trunc:
		return r.c.Image
	case format.ShortID(r.c.ImageID) == format.ShortID(r.c.Image):
		return format.ShortID(r.c.ImageID)
	}
	name, tag, digest := splitTag(r.c.Image)
	if digest != "" && tag != "" {
		name += ":" + tag
	}
	if digest != "" {
		return familiar(name)
	}
	return familiar(r.c.Image)
}

func (r *containerRow) Command() string {
	command := r.c.Command
	if r.trunc {
		command = format.Ellipsis(command, 20)
	}
	return strconv.Quote(command)
}

func (r *containerRow) CreatedAt() string { return time.Unix(r.c.Created, 0).String() }

func (r *containerRow) RunningFor() string { return format.Ago(time.Unix(r.c.Created, 0), r.now) }

func (r *containerRow) Ports() string { return displayPorts(r.c.Ports) }

func (r *containerRow) State() string { return r.c.State }

func (r *containerRow) Status() string { return r.c.Status }

func (r *containerRow) Size() string {
	s := format.Size(r.c.SizeRw)
	if r.c.SizeRootFs > 0 {
		s += " (virtual " + format.Size(r.c.SizeRootFs) + ")"
	}
	return s
}

func (r *containerRow) Labels() string { return format.Labels(r.c.Labels) }

// Label is one label's value.
func (r *containerRow) Label(name string) string { return r.c.Labels[name] }

func (r *containerRow) Mounts() string {
	names := make([]string, len(r.c.Mounts))
	for i, m := range r.c.Mounts {
		if names[i] = m.Name; m.Name == "" {
			names[i] = m.Source
		}
		if r.trunc {
			names[i] = format.Ellipsis(names[i], 15)
		}
	}
	return strings.Join(names, ",")
}

func (r *containerRow) LocalVolumes() string {
	n := 0
	for _, m := range r.c.Mounts {
		if m.Driver == "local" {
			n++
		}
	}
	return strconv.Itoa(n)
}

func (r *containerRow) Networks() string {
	if r.c.NetworkSettings == nil {
		return ""
	}
	var names []string
	for n := range r.c.NetworkSettings.Networks {
		names = append(names, n)
	}
	return strings.Join(sorted(names), ",")
}

// Platform is the image's, null where the engine does not say.
func (r *containerRow) Platform() *platformText {
	if d := r.c.ImageManifestDescriptor; d != nil && d.Platform != nil {
		return &platformText{*d.Platform}
	}
	return nil
}

// platformText is a platform that templates print as os/arch/variant.
type platformText struct{ client.Platform }

func (p platformText) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// displayPorts writes ports as Docker does: ranges together, then what goes to another port.
func displayPorts(ports []client.Port) string {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(a, b client.Port) int {
		if a.PrivatePort != b.PrivatePort {
			return int(a.PrivatePort) - int(b.PrivatePort)
		}
		if c := strings.Compare(a.IP, b.IP); c != 0 {
			return c
		}
		if a.PublicPort != b.PublicPort {
			return int(a.PublicPort) - int(b.PublicPort)
		}
		return strings.Compare(a.Type, b.Type)
	})
	type group struct {
		ip, proto   string
		first, last uint16
	}
	open := map[string]*group{} // by address and protocol
	var order []string
	var done, moved []string
	text := func(g *group) string {
		s := strconv.Itoa(int(g.first))
		if g.first != g.last {
			s += "-" + strconv.Itoa(int(g.last))
		}
		if g.ip != "" {
			s = net.JoinHostPort(g.ip, s) + "->" + s
		}
		return s + "/" + g.proto
	}
	for _, p := range ports {
		if p.IP != "" && p.PublicPort != p.PrivatePort {
			moved = append(moved, net.JoinHostPort(p.IP, strconv.Itoa(int(p.PublicPort)))+"->"+strconv.Itoa(int(p.PrivatePort))+"/"+p.Type)
			continue
		}
		key := p.IP + "/" + p.Type
		g := open[key]
		switch {
		case g == nil:
			order = append(order, key)
			open[key] = &group{p.IP, p.Type, p.PrivatePort, p.PrivatePort}
		case p.PrivatePort == g.last+1:
			g.last = p.PrivatePort
		default:
			done = append(done, text(g))
			open[key] = &group{p.IP, p.Type, p.PrivatePort, p.PrivatePort}
		}
	}
	for _, key := range order {
		done = append(done, text(open[key]))
	}
	return strings.Join(append(done, moved...), ", ")
}
