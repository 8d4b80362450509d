package cli

import (
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/create"
)

func setupStop(a *App, c *cobra.Command) {
	c.Use = "stop [OPTIONS] CONTAINER [CONTAINER...]"
	c.Example = "berth stop -t 3 web"
	query := stopFlags(c)
	shutdown := c.Flags().Bool("shutdown", false, "The machine goes down: policies start the containers again afterwards")
	c.Flags().Lookup("shutdown").Hidden = true // for the unit that docs/systemd has
	setupWords(a, c, "stop", func() url.Values {
		q := query()
		if *shutdown {
			q.Set("shutdown", "1")
		}
		return q
	})
}

func setupRestart(a *App, c *cobra.Command) {
	c.Use = "restart [OPTIONS] CONTAINER [CONTAINER...]"
	c.Example = "berth restart web"
	setupWords(a, c, "restart", stopFlags(c))
}

// stopFlags are those of stop and restart.
func stopFlags(c *cobra.Command) func() url.Values {
	var signal string
	var timeout int
	fs := c.Flags()
	fs.StringVarP(&signal, "signal", "s", "", "Signal to send to the container")
	fs.IntVarP(&timeout, "timeout", "t", 0, "Seconds to wait before killing the container")
	fs.IntVar(&timeout, "time", 0, "Seconds to wait before killing the container (deprecated: use --timeout)")
	create.Deprecate(fs, "time", "use --timeout")
	c.MarkFlagsMutuallyExclusive("time", "timeout")
	return func() url.Values {
		q := url.Values{}
		if signal != "" {
			q.Set("signal", signal)
		}
		if fs.Changed("timeout") || fs.Changed("time") {
			q.Set("t", strconv.Itoa(timeout))
		}
		return q
	}
}

func setupKill(a *App, c *cobra.Command) {
	var signal string
	c.Use = "kill [OPTIONS] CONTAINER [CONTAINER...]"
	c.Example = "berth kill -s HUP web"
	c.Flags().StringVarP(&signal, "signal", "s", "", "Signal to send to the container")
	setupWords(a, c, "kill", func() url.Values {
		q := url.Values{}
		if signal != "" {
			q.Set("signal", signal)
		}
		return q
	})
}

func setupPause(a *App, c *cobra.Command) {
	c.Use = "pause CONTAINER [CONTAINER...]"
	setupWords(a, c, "pause", func() url.Values { return nil })
}

func setupUnpause(a *App, c *cobra.Command) {
	c.Use = "unpause CONTAINER [CONTAINER...]"
	setupWords(a, c, "unpause", func() url.Values { return nil })
}

func setupRename(a *App, c *cobra.Command) {
	c.Use = "rename CONTAINER NEW_NAME"
	c.Example = "berth rename web old-web"
	c.Args = nArgs(2, 2)
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		return engine.ContainerDo(c.Context(), args[0], "rename", url.Values{"name": {args[1]}})
	}
}

func setupRm(a *App, c *cobra.Command) {
	var force, link, volumes bool
	c.Use = "rm [OPTIONS] CONTAINER [CONTAINER...]"
	c.Example = "berth rm -f web"
	c.Args = nArgs(1, -1)
	fs := c.Flags()
	fs.BoolVarP(&force, "force", "f", false, "Force the removal of a running container (uses SIGKILL)")
	fs.BoolVarP(&link, "link", "l", false, "Remove the specified link")
	fs.BoolVarP(&volumes, "volumes", "v", false, "Remove anonymous volumes associated with the container")
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		q := url.Values{}
		setFlag(q, "force", force)
		setFlag(q, "link", link)
		setFlag(q, "v", volumes)
		return a.each(args, func(name string) (string, error) {
			if err := engine.ContainerRemove(c.Context(), name, q); err != nil {
				if force && client.IsNotFound(err) {
					return "", nil // --force is content when it is gone
				}
				return "", err
			}
			return name, nil
		})
	}
}

func setupWait(a *App, c *cobra.Command) {
	c.Use = "wait CONTAINER [CONTAINER...]"
	c.Example = "berth wait web"
	c.Args = nArgs(1, -1)
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		return a.each(args, func(name string) (string, error) {
			w, err := engine.ContainerWait(c.Context(), name, "")
			if err != nil {
				return "", err
			}
			code, err := w.Result()
			return strconv.Itoa(code), err
		})
	}
}

// setFlag adds a query parameter for a flag that was given.
func setFlag(q url.Values, name string, on bool) {
	if on {
		q.Set(name, "1")
	}
}
