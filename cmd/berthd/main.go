// Command berthd is the engine: it serves Docker's Engine API on a unix socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/berth-engine/berth/api"
	"github.com/berth-engine/berth/engine"
	"github.com/spf13/cobra"
)

// version is set by the linker (Makefile).
var version = "dev"

func main() {
	cmd := command()
	if err := cmd.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "berthd:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "berthd",
		Short: "The Berth container engine",
		Long: "berthd serves Docker's Engine API on a unix socket and keeps images, containers, networks and volumes.\n" +
			"Containers run on when it ends or is restarted.",
		Example:       "  berthd\n  berthd --data-root /srv/berth --exec-root /run/berth-2 -H unix:///run/berth-2/berth.sock",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.load(cmd.Flags()); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return serve(ctx, o)
		},
	}
	o.flags(cmd.Flags())
	return cmd
}

// shutdownTime is how long requests that are under way may take to end.
const shutdownTime = 5 * time.Second

// serve opens the engine and answers until ctx ends. The sockets are there before the engine is open,
// so that who starts both need not wait: a client's first request waits instead.
func serve(ctx context.Context, o options) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.level()}))
	if err := checkCaller(); err != nil {
		return err
	}
	e, err := engine.Open(ctx, o.engine(log))
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, e.Close(context.WithoutCancel(ctx)))
	}()
	handler, err := api.New(e, api.Options{Version: version, MinVersion: o.MinAPI, Log: log})
	if err != nil {
		return err
	}
	sockets, err := listen(o)
	defer func() { err = errors.Join(err, sockets.close()) }()
	if err != nil {
		return err
	}
	if err := o.writePid(); err != nil {
		return err
	}
	defer o.removePid()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	failed := make(chan error, len(sockets))
	for _, s := range sockets {
		go func() { failed <- server.Serve(s) }()
	}
	log.Info("berthd is ready", "version", version, "data-root", o.DataRoot, "exec-root", o.ExecRoot, "sockets", o.Hosts)
	if err := notifySystemd("READY=1"); err != nil {
		log.Warn("systemd could not be told that berthd is ready", "error", err)
	}
	select {
	case <-ctx.Done():
	case err := <-failed:
		return err
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := server.Shutdown(within); err != nil {
		_ = server.Close() // what streams logs or waits would go on for ever
	}
	return nil
}

// checkCaller refuses to begin what can't work.
func checkCaller() error {
	if os.Geteuid() != 0 {
		return errors.New("berthd must be run as root: it mounts images and makes namespaces, cgroups and networks; try sudo berthd")
	}
	return nil
}
