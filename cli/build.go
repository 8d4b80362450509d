package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func setupBuild(a *App, c *cobra.Command) {
	c.Use = "build [OPTIONS] PATH | URL | -"
	c.Args = nArgs(1, 1)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withCode(125, errors.New("build is not built yet"))
	}
}
