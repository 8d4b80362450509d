package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
)

type logsOptions struct {
	details, follow, timestamps bool
	since, until, tail          string
}

func setupLogs(a *App, c *cobra.Command) {
	var o logsOptions
	c.Use = "logs [OPTIONS] CONTAINER"
	c.Example = "berth logs -f --tail 10 web"
	c.Args = nArgs(1, 1)
	fs := c.Flags()
	fs.BoolVar(&o.details, "details", false, "Show extra details provided to logs")
	fs.BoolVarP(&o.follow, "follow", "f", false, "Follow log output")
	fs.StringVar(&o.since, "since", "", `Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	fs.StringVarP(&o.tail, "tail", "n", "all", "Number of lines to show from the end of the logs")
	fs.BoolVarP(&o.timestamps, "timestamps", "t", false, "Show timestamps")
	fs.StringVar(&o.until, "until", "", `Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	c.RunE = func(c *cobra.Command, args []string) error { return a.logs(c.Context(), o, args[0]) }
}

func (a *App) logs(ctx context.Context, o logsOptions, name string) error {
	q := url.Values{"stdout": {"1"}, "stderr": {"1"}, "tail": {o.tail}}
	now := time.Now()
	for key, v := range map[string]string{"since": o.since, "until": o.until} {
		stamp, err := timestamp(v, now)
		if err != nil {
			return fmt.Errorf("invalid --%s: %w", key, err)
		}
		if stamp != "" {
			q.Set(key, stamp)
		}
	}
	setFlag(q, "details", o.details)
	setFlag(q, "follow", o.follow)
	setFlag(q, "timestamps", o.timestamps)
	engine, err := a.client()
	if err != nil {
		return err
	}
	resp, err := engine.Do(ctx, client.Request{Method: "GET", Path: "/containers/" + url.PathEscape(name) + "/logs", Query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := rawStream(ctx, engine, resp, name)
	if err != nil {
		return err
	}
	if raw {
		_, err = io.Copy(a.Out, resp.Body)
	} else {
		err = client.Demultiplex(a.Out, a.Err, resp.Body)
	}
	if err != nil {
		return fmt.Errorf("the logs broke off: %w", err)
	}
	return nil
}

// rawStream tells a terminal's stream from one in blocks: by the answer's type, or for engines that
// do not say it (API below 1.42) by asking whether the container has a terminal.
func rawStream(ctx context.Context, engine *client.Client, resp *client.Response, name string) (bool, error) {
	switch contentType := resp.Header.Get("Content-Type"); {
	case strings.Contains(contentType, "multiplexed-stream"):
		return false, nil
	case strings.Contains(contentType, "raw-stream"):
		// dockerd before API 1.42 says this of both.
	}
	info, err := engine.Container(ctx, name)
	if err != nil {
		return false, err
	}
	return info.Config.Tty, nil
}
