package cli

import (
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func setupTop(a *App, c *cobra.Command) {
	c.Use = "top CONTAINER [ps OPTIONS]"
	c.Example = "berth top web"
	c.Args = nArgs(1, -1)
	c.Flags().SetInterspersed(false)
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		q := url.Values{}
		if len(args) > 1 {
			q.Set("ps_args", strings.Join(args[1:], " "))
		}
		var out struct {
			Titles    []string
			Processes [][]string
		}
		if err := engine.Call(c.Context(), "GET", "/containers/"+url.PathEscape(args[0])+"/top", q, nil, &out); err != nil {
			return err
		}
		w := tabwriter.NewWriter(a.Out, 20, 1, 3, ' ', 0)
		fmt.Fprintln(w, strings.Join(out.Titles, "\t"))
		for _, p := range out.Processes {
			fmt.Fprintln(w, strings.Join(p, "\t"))
		}
		return w.Flush()
	}
}
