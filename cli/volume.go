package cli

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/format"
)

func setupVolumeCreate(a *App, c *cobra.Command) {
	var driver, name string
	var labels []string
	options := pairs{}
	c.Use = "create [OPTIONS] [VOLUME]"
	c.Example = "berth volume create data"
	c.Args = nArgs(0, 1)
	fs := c.Flags()
	fs.StringVarP(&driver, "driver", "d", "local", "Specify volume driver name")
	fs.Var((*stringList)(&labels), "label", "Set metadata for a volume")
	fs.StringVar(&name, "name", "", "Specify volume name")
	fs.Lookup("name").Hidden = true
	fs.VarP(options, "opt", "o", "Set driver specific options")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			if name != "" {
				return errors.New("the name is given twice: once by --name and once as the argument")
			}
			name = args[0]
		}
		engine, err := a.client()
		if err != nil {
			return err
		}
		v, err := engine.VolumeCreate(c.Context(), client.VolumeRequest{Driver: driver, DriverOpts: options, Labels: labelMap(labels), Name: name})
		if err != nil {
			return err
		}
		a.printf("%s\n", v.Name)
		return nil
	}
}

// labelMap cuts name=value; a label without a value is empty.
func labelMap(labels []string) map[string]string {
	m := map[string]string{}
	for _, l := range labels {
		name, value, _ := strings.Cut(l, "=")
		m[name] = value
	}
	return m
}

func setupVolumeLs(a *App, c *cobra.Command) {
	var text string
	var quiet bool
	f := filters{}
	c.Use = "ls [OPTIONS]"
	c.Example = "berth volume ls -f dangling=true"
	c.Args = nArgs(0, 0)
	fs := c.Flags()
	filterFlag(fs, f, `Provide filter values (e.g. "dangling=true")`)
	fs.StringVar(&text, "format", "", formatUsage)
	fs.BoolVarP(&quiet, "quiet", "q", false, "Only display volume names")
	c.RunE = func(c *cobra.Command, _ []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		q, err := f.query()
		if err != nil {
			return err
		}
		volumes, warnings, err := engine.VolumeList(c.Context(), q)
		if err != nil {
			return err
		}
		for _, w := range warnings {
			a.warnf("%s", w)
		}
		slices.SortFunc(volumes, func(x, y client.Volume) int { return strings.Compare(x.Name, y.Name) })
		rows := make([]*volumeRow, len(volumes))
		for i := range volumes {
			rows[i] = &volumeRow{volumes[i]}
		}
		if text == "" {
			text = a.configuredFormat("volumesFormat")
		}
		if quiet {
			text = "{{.Name}}"
		}
		return format.List(a.Out, text, `{{.Driver}}\t{{.Name}}`, &volumeRow{}, rows)
	}
}

// volumeRow is a volume as tables and templates see it.
type volumeRow struct{ v client.Volume }

// Columns are Docker's.
func (r *volumeRow) Columns() format.Header {
	return format.Header{
		"Name": "VOLUME NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS", "Links": "LINKS",
		"Size": "SIZE", "Group": "GROUP", "Availability": "AVAILABILITY", "Status": "STATUS",
	}
}

func (r *volumeRow) Name() string             { return r.v.Name }
func (r *volumeRow) Driver() string           { return r.v.Driver }
func (r *volumeRow) Scope() string            { return r.v.Scope }
func (r *volumeRow) Mountpoint() string       { return r.v.Mountpoint }
func (r *volumeRow) Labels() string           { return format.Labels(r.v.Labels) }
func (r *volumeRow) Label(name string) string { return r.v.Labels[name] }
func (r *volumeRow) Group() string            { return "N/A" }
func (r *volumeRow) Availability() string     { return "N/A" }
func (r *volumeRow) Status() string           { return "N/A" }

func (r *volumeRow) Links() string {
	if r.v.UsageData == nil {
		return "N/A"
	}
	return strconv.FormatInt(r.v.UsageData.RefCount, 10)
}

func (r *volumeRow) Size() string {
	if r.v.UsageData == nil {
		return "N/A"
	}
	return shortSize(r.v.UsageData.Size)
}

func setupVolumeRm(a *App, c *cobra.Command) {
	var force bool
	c.Use = "rm [OPTIONS] VOLUME [VOLUME...]"
	c.Example = "berth volume rm data"
	c.Args = nArgs(1, -1)
	c.Flags().BoolVarP(&force, "force", "f", false, "Force the removal of one or more volumes")
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		q := url.Values{}
		setFlag(q, "force", force)
		return a.each(args, func(name string) (string, error) {
			if err := engine.VolumeRemove(c.Context(), name, q); err != nil {
				return "", err
			}
			return name, nil
		})
	}
}
