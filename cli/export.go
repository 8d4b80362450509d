package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/progress"
	"github.com/berth-engine/berth/cli/terminal"
)

func containerPath(name string) string { return "/containers/" + url.PathEscape(name) }

func setupExport(a *App, c *cobra.Command) {
	var output string
	c.Use = "export [OPTIONS] CONTAINER"
	c.Example = "berth export -o web.tar web"
	c.Args = nArgs(1, 1)
	c.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.saveTo(c.Context(), output, client.Request{Method: "GET", Path: containerPath(args[0]) + "/export"})
	}
}

func setupSave(a *App, c *cobra.Command) {
	var output string
	var platforms []string
	c.Use = "save [OPTIONS] IMAGE [IMAGE...]"
	c.Example = "berth save -o debian.tar debian"
	c.Args = nArgs(1, -1)
	c.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	c.Flags().StringSliceVar(&platforms, "platform", nil, `Save only the given platform(s). Formatted as a comma-separated list of "os[/arch[/variant]]" (e.g., "linux/amd64,linux/arm64/v8")`)
	c.RunE = func(c *cobra.Command, args []string) error {
		q, err := platformQuery("platform", platforms...)
		if err != nil {
			return err
		}
		q["names"] = args
		return a.saveTo(c.Context(), output, client.Request{Method: "GET", Path: "/images/get", Query: q})
	}
}

// saveTo writes the answer to a file, or to stdout. The file gets its name when it is whole.
func (a *App) saveTo(ctx context.Context, path string, req client.Request) error {
	if path == "" && a.outIsTerminal() {
		return errors.New("a tar archive is not for a terminal: use -o FILE, or redirect stdout")
	}
	engine, err := a.client()
	if err != nil {
		return err
	}
	out := a.Out
	var file *wholeFile
	if path != "" {
		if file, err = createWhole(path); err != nil {
			return err
		}
		defer file.Close()
		out = file
	}
	resp, err := engine.Do(ctx, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	meter := progress.NewMeter(a.progressOut(path != ""), "Saved", 0)
	_, err = io.Copy(out, meter.Reader(resp.Body))
	meter.Close()
	if err != nil {
		return fmt.Errorf("the archive broke off: %w", err)
	}
	if file == nil {
		return nil
	}
	return file.finish()
}

// progressOut is where progress is shown: the terminal that stderr is, nowhere else.
func (a *App) progressOut(wanted bool) *progress.Screen {
	f, _ := a.Err.(*os.File)
	if !wanted || !terminal.Is(f) {
		return nil
	}
	return screenOn(f)
}

func screenOn(f *os.File) *progress.Screen {
	return &progress.Screen{W: f, Size: func() (int, int) {
		size, err := terminal.SizeOf(f)
		if err != nil || size.Width == 0 || size.Height == 0 {
			return 80, 24
		}
		return int(size.Width), int(size.Height)
	}}
}

// progressTo shows an engine's report on w, live where w is a terminal.
func (a *App) progressTo(w io.Writer, quiet bool) *progress.Stream {
	if quiet {
		return progress.NewStream(nil, nil)
	}
	if f, ok := w.(*os.File); ok && terminal.Is(f) {
		return progress.NewStream(nil, screenOn(f))
	}
	return progress.NewStream(w, nil)
}
