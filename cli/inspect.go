package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/format"
)

// kind is a kind of things that can be inspected.
type kind struct {
	name  string
	path  func(name string) string
	typed func() any
	size  bool // knows ?size=1
}

var (
	containerKind = kind{"container", func(n string) string { return "/containers/" + url.PathEscape(n) + "/json" }, func() any { return new(client.Container) }, true}
	imageKind     = kind{"image", func(n string) string { return client.ImagePath(n, "/json") }, func() any { return new(client.Image) }, false}
	volumeKind    = kind{"volume", func(n string) string { return "/volumes/" + url.PathEscape(n) }, func() any { return new(client.Volume) }, false}
	networkKind   = kind{"network", func(n string) string { return "/networks/" + url.PathEscape(n) }, func() any { return new(client.Network) }, false}
)

func setupInspect(a *App, c *cobra.Command) {
	var text, typ string
	var size bool
	c.Use = "inspect [OPTIONS] NAME|ID [NAME|ID...]"
	c.Example = "berth inspect -f '{{.State.Pid}}' web"
	c.Args = nArgs(1, -1)
	fs := c.Flags()
	fs.StringVarP(&text, "format", "f", "", inspectFormatUsage)
	fs.BoolVarP(&size, "size", "s", false, "Display total file sizes if the type is container")
	fs.StringVar(&typ, "type", "", "Only inspect objects of the given type")
	c.RunE = func(c *cobra.Command, args []string) error {
		kinds := []kind{containerKind, imageKind, networkKind, volumeKind}
		if c.Flags().Changed("type") {
			found := false
			for _, k := range kinds {
				if k.name == typ {
					kinds, found = []kind{k}, true
					break
				}
			}
			if !found {
				return fmt.Errorf("%q is not a type that can be inspected: there are container, image, network and volume", typ)
			}
		}
		return a.inspect(c.Context(), args, text, size, url.Values{}, kinds...)
	}
}

func setupContainerInspect(a *App, c *cobra.Command) {
	var text string
	var size bool
	c.Use = "inspect [OPTIONS] CONTAINER [CONTAINER...]"
	c.Args = nArgs(1, -1)
	c.Flags().StringVarP(&text, "format", "f", "", inspectFormatUsage)
	c.Flags().BoolVarP(&size, "size", "s", false, "Display total file sizes")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.inspect(c.Context(), args, text, size, nil, containerKind)
	}
}

func setupImageInspect(a *App, c *cobra.Command) {
	var text, platform string
	c.Use = "inspect [OPTIONS] IMAGE [IMAGE...]"
	c.Args = nArgs(1, -1)
	c.Flags().StringVarP(&text, "format", "f", "", inspectFormatUsage)
	c.Flags().StringVar(&platform, "platform", "", "Inspect a specific platform of the multi-platform image")
	c.RunE = func(c *cobra.Command, args []string) error {
		q, err := platformQuery("platform", platform)
		if err != nil {
			return err
		}
		return a.inspect(c.Context(), args, text, false, q, imageKind)
	}
}

func setupVolumeInspect(a *App, c *cobra.Command) {
	var text string
	c.Use = "inspect [OPTIONS] VOLUME [VOLUME...]"
	c.Args = nArgs(1, -1)
	c.Flags().StringVarP(&text, "format", "f", "", inspectFormatUsage)
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.inspect(c.Context(), args, text, false, nil, volumeKind)
	}
}

func setupNetworkInspect(a *App, c *cobra.Command) {
	var text string
	var verbose bool
	c.Use = "inspect [OPTIONS] NETWORK [NETWORK...]"
	c.Args = nArgs(1, -1)
	c.Flags().StringVarP(&text, "format", "f", "", inspectFormatUsage)
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "Verbose output for diagnostics")
	c.RunE = func(c *cobra.Command, args []string) error {
		q := url.Values{}
		setFlag(q, "verbose", verbose)
		return a.inspect(c.Context(), args, text, false, q, networkKind)
	}
}

// inspect prints what is found of names; what is not found is reported after it.
func (a *App) inspect(ctx context.Context, names []string, text string, size bool, q url.Values, kinds ...kind) error {
	engine, err := a.client()
	if err != nil {
		return err
	}
	var objects []format.Object
	var errs []error
	for _, name := range names {
		o, err := inspectOne(ctx, engine, name, size, q, kinds)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		objects = append(objects, o)
	}
	if err := format.Inspect(a.Out, text, objects); err != nil {
		errs = append(errs, err)
	}
	for _, err := range errs {
		a.report(err)
	}
	if len(errs) > 0 {
		return exitCode(1)
	}
	return nil
}

func inspectOne(ctx context.Context, engine *client.Client, name string, size bool, q url.Values, kinds []kind) (format.Object, error) {
	var last error
	for _, k := range kinds {
		query := q
		if size && k.size {
			query = url.Values{"size": {"1"}}
		}
		raw, err := engine.Raw(ctx, "GET", k.path(name), query)
		if client.IsNotFound(err) {
			last = err
			continue
		}
		if err != nil {
			return format.Object{}, err
		}
		o := format.Object{Raw: raw, Typed: k.typed()}
		if json.Unmarshal(raw, o.Typed) != nil {
			o.Typed = nil
		}
		return o, nil
	}
	if len(kinds) > 1 {
		last = errors.New("no such object: " + name)
	}
	return format.Object{}, last
}
