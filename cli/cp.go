package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func setupCp(a *App, c *cobra.Command) {
	c.Use = "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-"
	c.Args = nArgs(2, 2)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withCode(125, errors.New("cp is not built yet"))
	}
}
