package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
)

// pruneKind is a kind of things that can be unused.
type pruneKind struct {
	path  string
	title string // over the list of what was removed
	names func(client.Pruned) []string
}

var (
	pruneContainers = pruneKind{"containers", "Deleted Containers:", func(p client.Pruned) []string { return p.ContainersDeleted }}
	pruneNetworks   = pruneKind{"networks", "Deleted Networks:", func(p client.Pruned) []string { return p.NetworksDeleted }}
	pruneVolumes    = pruneKind{"volumes", "Deleted Volumes:", func(p client.Pruned) []string { return p.VolumesDeleted }}
	pruneImages     = pruneKind{"images", "Deleted Images:", prunedImages}
	pruneBuild      = pruneKind{"build", "Deleted build cache objects:", func(p client.Pruned) []string { return p.CachesDeleted }}
)

func prunedImages(p client.Pruned) []string {
	var lines []string
	for _, d := range p.ImagesDeleted {
		if d.Untagged != "" {
			lines = append(lines, "untagged: "+d.Untagged)
		} else {
			lines = append(lines, "deleted: "+d.Deleted)
		}
	}
	return lines
}

// pruneOptions are the flags of every prune.
type pruneOptions struct {
	force   bool
	filters filters
}

func (o *pruneOptions) register(c *cobra.Command, filterHelp string) {
	o.filters = filters{}
	c.Use = "prune [OPTIONS]"
	c.Args = nArgs(0, 0)
	c.Flags().Var(o.filters, "filter", filterHelp)
	c.Flags().BoolVarP(&o.force, "force", "f", false, "Do not prompt for confirmation")
}

const untilFilter = `Provide filter values (e.g. "until=<timestamp>")`

func setupContainerPrune(a *App, c *cobra.Command) {
	var o pruneOptions
	o.register(c, untilFilter)
	c.Example = "berth container prune -f"
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.prune(c.Context(), o, "This will remove all stopped containers.", pruneContainers)
	}
}

func setupNetworkPrune(a *App, c *cobra.Command) {
	var o pruneOptions
	o.register(c, untilFilter)
	c.Example = "berth network prune -f"
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.prune(c.Context(), o, "This will remove all custom networks not used by at least one container.", pruneNetworks)
	}
}

func setupVolumePrune(a *App, c *cobra.Command) {
	var o pruneOptions
	var all bool
	o.register(c, `Provide filter values (e.g. "label=<label>")`)
	c.Example = "berth volume prune -f"
	c.Flags().BoolVarP(&all, "all", "a", false, "Remove all unused volumes, not just anonymous ones")
	c.RunE = func(c *cobra.Command, _ []string) error {
		warning := "This will remove anonymous local volumes not used by at least one container."
		if all {
			if o.filters["all"] != nil {
				return errors.New("--all and --filter all=… say the same thing twice")
			}
			o.filters.add("all", "true")
			warning = "This will remove all local volumes not used by at least one container."
		}
		return a.prune(c.Context(), o, warning, pruneVolumes)
	}
}

func setupImagePrune(a *App, c *cobra.Command) {
	var o pruneOptions
	var all bool
	o.register(c, untilFilter)
	c.Example = "berth image prune -a -f"
	c.Flags().BoolVarP(&all, "all", "a", false, "Remove all unused images, not just dangling ones")
	c.RunE = func(c *cobra.Command, _ []string) error {
		warning := "This will remove all dangling images."
		if all {
			warning = "This will remove all images without at least one container associated to them."
		}
		o.filters.add("dangling", fmt.Sprint(!all))
		return a.prune(c.Context(), o, warning, pruneImages)
	}
}

func setupBuilderPrune(a *App, c *cobra.Command) {
	var o pruneOptions
	var all bool
	o.register(c, `Provide filter values (e.g. "until=24h")`)
	c.Example = "berth builder prune -f"
	c.Flags().BoolVarP(&all, "all", "a", false, "Remove all unused build cache, not just dangling ones")
	c.RunE = func(c *cobra.Command, _ []string) error {
		warning := "This will remove all dangling build cache."
		if all {
			warning = "This will remove all build cache."
		}
		if err := a.confirm(o.force, "WARNING! "+warning+" Are you sure you want to continue?"); err != nil {
			return err
		}
		q, err := o.filters.query()
		if err != nil {
			return err
		}
		setFlag(q, "all", all)
		return a.pruneAll(c.Context(), []pruneStep{{pruneBuild, q}})
	}
}

func setupSystemPrune(a *App, c *cobra.Command) {
	var o pruneOptions
	var all, volumes bool
	o.register(c, `Provide filter values (e.g. "label=<key>=<value>")`)
	c.Example = "berth system prune -f"
	c.Flags().BoolVarP(&all, "all", "a", false, "Remove all unused images not just dangling ones")
	c.Flags().BoolVar(&volumes, "volumes", false, "Prune anonymous volumes")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.systemPrune(c.Context(), o, all, volumes) }
}

func (a *App) systemPrune(ctx context.Context, o pruneOptions, all, volumes bool) error {
	if volumes && o.filters["until"] != nil {
		return errors.New(`the filter "until" means nothing for volumes, so it cannot stand beside --volumes`)
	}
	items := []string{"all stopped containers", "all networks not used by at least one container"}
	if volumes {
		items = append(items, "all anonymous volumes not used by at least one container")
	}
	if all {
		items = append(items, "all images without at least one container associated to them", "all build cache")
	} else {
		items = append(items, "all dangling images", "unused build cache")
	}
	question := "WARNING! This will remove:\n  - " + strings.Join(items, "\n  - ") + "\n"
	var given []string
	for name, values := range o.filters {
		for v := range values {
			given = append(given, name+"="+v)
		}
	}
	if len(given) > 0 {
		question += "\n  Items to be pruned will be filtered with:\n  - " + strings.Join(sorted(given), "\n  - ") + "\n"
	}
	if err := a.confirm(o.force, question+"\nAre you sure you want to continue?"); err != nil {
		return err
	}
	plain, err := o.filters.query()
	if err != nil {
		return err
	}
	o.filters.add("dangling", fmt.Sprint(!all))
	images, err := o.filters.query()
	if err != nil {
		return err
	}
	delete(o.filters, "dangling")
	build, err := o.filters.query()
	if err != nil {
		return err
	}
	setFlag(build, "all", all)
	steps := []pruneStep{{pruneContainers, plain}, {pruneNetworks, plain}}
	if volumes {
		steps = append(steps, pruneStep{pruneVolumes, plain})
	}
	return a.pruneAll(ctx, append(steps, pruneStep{pruneImages, images}, pruneStep{pruneBuild, build}))
}

func (a *App) prune(ctx context.Context, o pruneOptions, warning string, kind pruneKind) error {
	if err := a.confirm(o.force, "WARNING! "+warning+"\nAre you sure you want to continue?"); err != nil {
		return err
	}
	q, err := o.filters.query()
	if err != nil {
		return err
	}
	return a.pruneAll(ctx, []pruneStep{{kind, q}})
}

type pruneStep struct {
	kind  pruneKind
	query url.Values
}

// pruneAll prunes one kind after the other and prints what went and how much space it took.
func (a *App) pruneAll(ctx context.Context, steps []pruneStep) error {
	engine, err := a.client()
	if err != nil {
		return err
	}
	var total uint64
	for _, step := range steps {
		report, err := engine.Prune(ctx, step.kind.path, step.query)
		if err != nil {
			return err
		}
		total += report.SpaceReclaimed
		if names := step.kind.names(report); len(names) > 0 {
			a.printf("%s\n%s\n\n", step.kind.title, strings.Join(names, "\n"))
		}
	}
	if len(steps) == 1 && steps[0].kind.path == "networks" {
		return nil // they take no space
	}
	a.printf("Total reclaimed space: %s\n", units.HumanSize(float64(total)))
	return nil
}

// confirm asks; only y and yes are a yes.
func (a *App) confirm(force bool, question string) error {
	if force {
		return nil
	}
	fmt.Fprintf(a.Out, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.In).ReadString('\n')
	if err != nil && line == "" {
		fmt.Fprintln(a.Out)
		return errors.New("nothing was removed: there was no answer (use --force to be asked no question)")
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was removed")
}
