package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/progress"
)

func setupLoad(a *App, c *cobra.Command) {
	var input string
	var quiet bool
	var platforms []string
	c.Use = "load [OPTIONS]"
	c.Example = "berth load -i debian.tar"
	c.Args = nArgs(0, 0)
	fs := c.Flags()
	fs.StringVarP(&input, "input", "i", "", "Read from tar archive file, instead of STDIN")
	fs.StringSliceVar(&platforms, "platform", nil, `Load only the given platform(s). Formatted as a comma-separated list of "os[/arch[/variant]]" (e.g., "linux/amd64,linux/arm64/v8").`)
	fs.BoolVarP(&quiet, "quiet", "q", false, "Suppress the load output")
	c.RunE = func(c *cobra.Command, _ []string) error {
		q, err := platformQuery("platform", platforms...)
		if err != nil {
			return err
		}
		setFlag(q, "quiet", quiet || !a.outIsTerminal())
		return a.load(c.Context(), input, quiet, q)
	}
}

func (a *App) load(ctx context.Context, input string, quiet bool, q url.Values) error {
	in, total, err := a.openInput(input, "an image archive")
	if err != nil {
		return err
	}
	defer in.Close()
	engine, err := a.client()
	if err != nil {
		return err
	}
	meter := progress.NewMeter(a.progressOut(!quiet), "Sent", total)
	resp, err := engine.Do(ctx, client.Request{Method: "POST", Path: "/images/load", Query: q, Body: meter.Reader(in)})
	if err != nil {
		meter.Close()
		return err
	}
	defer resp.Body.Close()
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return a.progressTo(a.Out, false).Copy(resp.Body)
	}
	_, err = io.Copy(a.Out, resp.Body)
	return err
}

// openInput opens a file, or takes stdin where none is named. The size is 0 where nobody knows it.
func (a *App) openInput(path, what string) (io.ReadCloser, int64, error) {
	if path == "" || path == "-" {
		if a.inIsTerminal() {
			return nil, 0, fmt.Errorf("%s does not come from a terminal: redirect stdin, or use -i FILE", what)
		}
		return io.NopCloser(a.In), 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	if info.IsDir() {
		f.Close()
		return nil, 0, fmt.Errorf("%s is a directory, not %s", path, what)
	}
	return f, info.Size(), nil
}

func setupImport(a *App, c *cobra.Command) {
	var changes []string
	var message, platform string
	c.Use = "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]"
	c.Example = "berth import rootfs.tar mine:1"
	c.Args = nArgs(1, 2)
	fs := c.Flags()
	fs.VarP((*stringList)(&changes), "change", "c", "Apply Dockerfile instruction to the created image")
	fs.StringVarP(&message, "message", "m", "", "Set commit message for imported image")
	fs.StringVar(&platform, "platform", "", "Set platform if server is multi-platform capable")
	c.RunE = func(c *cobra.Command, args []string) error {
		q := url.Values{"changes": changes}
		for name, v := range map[string]string{"message": message, "platform": platform} {
			if v != "" {
				q.Set(name, v)
			}
		}
		if len(args) == 2 {
			repo, tag, digest := splitTag(args[1])
			if digest != "" {
				return errDigestTag(args[1])
			}
			q.Set("repo", repo)
			q.Set("tag", tag)
		}
		return a.importImage(c.Context(), args[0], q)
	}
}

func (a *App) importImage(ctx context.Context, source string, q url.Values) error {
	engine, err := a.client()
	if err != nil {
		return err
	}
	req := client.Request{Method: "POST", Path: "/images/create", Query: q}
	if strings.Contains(source, "://") {
		q.Set("fromSrc", source)
	} else {
		q.Set("fromSrc", "-")
		in, _, err := a.openInput(source, "a tar archive")
		if err != nil {
			return err
		}
		defer in.Close()
		req.Body = in
	}
	return a.followReport(ctx, engine, req, a.Out, false, nil)
}

var errEmptyPassword = errors.New("the password is empty")
