package cli

import (
	"net/url"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/create"
)

func setupCommit(a *App, c *cobra.Command) {
	var author, message string
	var changes []string
	var noPause, pause bool
	c.Use = "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]"
	c.Example = `berth commit -c 'CMD ["bash"]' web web:changed`
	c.Args = nArgs(1, 2)
	fs := c.Flags()
	fs.StringVarP(&author, "author", "a", "", `Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")`)
	fs.VarP((*stringList)(&changes), "change", "c", "Apply Dockerfile instruction to the created image")
	fs.StringVarP(&message, "message", "m", "", "Commit message")
	fs.BoolVar(&noPause, "no-pause", false, "Disable pausing container during commit")
	fs.BoolVarP(&pause, "pause", "p", true, "Pause container during commit (deprecated: use --no-pause instead)")
	create.Deprecate(fs, "pause", "it is on by default, and --no-pause turns it off")
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		q := url.Values{"container": {args[0]}, "changes": changes}
		if len(args) == 2 {
			repo, tag, digest := splitTag(args[1])
			if digest != "" {
				return errDigestTag(args[1])
			}
			q.Set("repo", repo)
			q.Set("tag", tag)
		}
		for name, v := range map[string]string{"author": author, "comment": message} {
			if v != "" {
				q.Set(name, v)
			}
		}
		if noPause || !pause {
			q.Set("pause", "0")
		}
		var out struct {
			ID string `json:"Id"`
		}
		if err := engine.Call(c.Context(), "POST", "/commit", q, nil, &out); err != nil {
			return err
		}
		a.printf("%s\n", out.ID)
		return nil
	}
}
