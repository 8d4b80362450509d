package cli

import (
	"context"
	"errors"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/terminal"
)

func setupStart(a *App, c *cobra.Command) {
	var attach, interactive bool
	var keys string
	c.Use = "start [OPTIONS] CONTAINER [CONTAINER...]"
	c.Example = "berth start web"
	c.Args = nArgs(1, -1)
	fs := c.Flags()
	fs.BoolVarP(&attach, "attach", "a", false, "Attach STDOUT/STDERR and forward signals")
	fs.BoolVarP(&interactive, "interactive", "i", false, "Attach container's STDIN")
	fs.StringVar(&keys, "detach-keys", "", "Override the key sequence for detaching a container")
	c.RunE = func(c *cobra.Command, args []string) error {
		if !attach && !interactive {
			return a.start(c.Context(), args)
		}
		if len(args) > 1 {
			return errors.New("only one container can be started attached")
		}
		return a.startOneAttached(c.Context(), args[0], interactive, keys)
	}
}

func (a *App) start(ctx context.Context, names []string) error {
	engine, err := a.client()
	if err != nil {
		return err
	}
	return a.each(names, func(name string) (string, error) {
		if err := engine.ContainerDo(ctx, name, "start", nil); err != nil {
			return "", err
		}
		return name, nil
	})
}

func (a *App) startOneAttached(ctx context.Context, name string, interactive bool, keysFlag string) error {
	engine, err := a.client()
	if err != nil {
		return err
	}
	info, err := engine.Container(ctx, name)
	if err != nil {
		return err
	}
	keys, err := a.detachKeys(keysFlag)
	if err != nil {
		return err
	}
	tty, stdin := info.Config.Tty, interactive && info.Config.OpenStdin
	if err := a.checkInput(stdin, tty); err != nil {
		return err
	}
	return a.startAttached(ctx, attached{
		id: info.ID, tty: tty, stdin: stdin, stdout: true, stderr: true, removed: info.HostConfig.AutoRemove,
		sigProxy: true, keys: keys, flag: keysFlag,
	})
}

func setupAttach(a *App, c *cobra.Command) {
	var noStdin, sigProxy bool
	var keysFlag string
	c.Use = "attach [OPTIONS] CONTAINER"
	c.Example = "berth attach web"
	c.Args = nArgs(1, 1)
	fs := c.Flags()
	fs.BoolVar(&noStdin, "no-stdin", false, "Do not attach STDIN")
	fs.BoolVar(&sigProxy, "sig-proxy", true, "Proxy all received signals to the process")
	fs.StringVar(&keysFlag, "detach-keys", "", "Override the key sequence for detaching a container")
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		info, err := engine.Container(c.Context(), args[0])
		if err != nil {
			return err
		}
		switch {
		case !info.State.Running:
			return errors.New("cannot attach to a stopped container: start it first, or use `berth start -a`")
		case info.State.Paused:
			return errors.New("cannot attach to a paused container: unpause it first")
		case info.State.Restarting:
			return errors.New("cannot attach to a container that is restarting: wait until it runs")
		}
		stdin := !noStdin && info.Config.OpenStdin
		if err := a.checkInput(stdin, info.Config.Tty); err != nil {
			return err
		}
		keys, err := a.detachKeys(keysFlag)
		if err != nil {
			return err
		}
		return a.startAttached(c.Context(), attached{
			id: info.ID, tty: info.Config.Tty, stdin: stdin, stdout: true, stderr: true, removed: info.HostConfig.AutoRemove,
			sigProxy: sigProxy, keys: keys, flag: keysFlag, noStart: true,
		})
	}
}

// followSize tells the terminal's size now and whenever it changes, until stop is called.
func (a *App) followSize(tell func(height, width uint16)) (stop func()) {
	f := a.outFile()
	if !terminal.Is(f) {
		return func() {}
	}
	sizes, stopSizes := terminal.Resizes(f)
	if size, ok := a.terminalSize(); ok {
		tell(size.Height, size.Width)
	}
	done := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case size := <-sizes:
				tell(size.Height, size.Width)
			case <-done:
				return
			}
		}
	}()
	return func() { stopSizes(); close(done); <-over }
}

// setupWords prepares the commands that say one word to each container: stop, kill and their kin.
func setupWords(a *App, c *cobra.Command, action string, query func() url.Values) {
	c.Args = nArgs(1, -1)
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		return a.each(args, func(name string) (string, error) {
			if err := engine.ContainerDo(c.Context(), name, action, query()); err != nil {
				return "", err
			}
			return name, nil
		})
	}
}
