package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
)

func setupCreate(a *App, c *cobra.Command) {
	var o createOptions
	c.Use = "create [OPTIONS] IMAGE [COMMAND] [ARG...]"
	c.Example = "berth create --name web -p 8080:80 nginx"
	c.Args = nArgs(1, -1)
	o.register(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		req, err := o.request(a, c, args)
		if err != nil {
			return err
		}
		id, err := a.create(c.Context(), &o, req)
		if err != nil {
			return err
		}
		a.printf("%s\n", id)
		return nil
	}
}

// create creates the container, and pulls the image where it is missing and may be pulled.
func (a *App) create(ctx context.Context, o *createOptions, req client.CreateRequest) (string, error) {
	cid, err := createCIDFile(o.flags.CIDFile())
	if err != nil {
		return "", withCode(125, err)
	}
	defer cid.Close()
	engine, err := a.client()
	if err != nil {
		return "", err
	}
	if o.pull == "always" {
		if err := a.pullForRun(ctx, o, req.Image); err != nil {
			return "", err
		}
	}
	if size, ok := a.terminalSize(); ok && req.Tty {
		req.HostConfig.ConsoleSize = [2]uint{uint(size.Height), uint(size.Width)}
	}
	created, err := engine.ContainerCreate(ctx, o.name, o.platform, req)
	if isImageMissing(err) && o.pull == "missing" {
		fmt.Fprintf(a.Err, "Unable to find image '%s' locally\n", familiarWithTag(req.Image))
		if err := a.pullForRun(ctx, o, req.Image); err != nil {
			return "", err
		}
		created, err = engine.ContainerCreate(ctx, o.name, o.platform, req)
	}
	if err != nil {
		return "", err
	}
	for _, w := range created.Warnings {
		a.warnf("%s", w)
	}
	return created.ID, cid.write(created.ID)
}

// isImageMissing tells the 404 of a missing image from that of a missing network.
func isImageMissing(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Status == 404 && strings.Contains(strings.ToLower(e.Message), "no such image")
}

func (a *App) pullForRun(ctx context.Context, o *createOptions, image string) error {
	return a.pull(ctx, pullOptions{platform: o.platform, quiet: o.quiet, out: a.Err}, image)
}
