package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/create"
)

type execOptions struct {
	detach, interactive, tty, privileged bool
	detachKeys, user, workdir            string
	env, envFile                         []string
}

func setupExec(a *App, c *cobra.Command) {
	var o execOptions
	c.Use = "exec [OPTIONS] CONTAINER COMMAND [ARG...]"
	c.Example = "berth exec -it web sh"
	c.Args = nArgs(2, -1)
	fs := c.Flags()
	fs.SetInterspersed(false)
	fs.BoolVarP(&o.detach, "detach", "d", false, "Detached mode: run command in the background")
	fs.StringVar(&o.detachKeys, "detach-keys", "", "Override the key sequence for detaching a container")
	fs.VarP((*stringList)(&o.env), "env", "e", "Set environment variables")
	fs.Var((*stringList)(&o.envFile), "env-file", "Read in a file of environment variables")
	fs.BoolVarP(&o.interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	fs.BoolVar(&o.privileged, "privileged", false, "Give extended privileges to the command")
	fs.BoolVarP(&o.tty, "tty", "t", false, "Allocate a pseudo-TTY")
	fs.StringVarP(&o.user, "user", "u", "", `Username or UID (format: "<name|uid>[:<group|gid>]")`)
	fs.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	c.RunE = func(c *cobra.Command, args []string) error { return a.exec(c.Context(), o, args[0], args[1:]) }
}

func (a *App) exec(ctx context.Context, o execOptions, container string, command []string) error {
	env, err := o.environment()
	if err != nil {
		return err
	}
	keys, err := a.detachKeys(o.detachKeys)
	if err != nil {
		return err
	}
	engine, err := a.client()
	if err != nil {
		return err
	}
	req := client.ExecRequest{
		User: o.user, Privileged: o.privileged, Tty: o.tty, Env: env, WorkingDir: o.workdir, Cmd: command, DetachKeys: o.detachKeys,
		AttachStdin: !o.detach && o.interactive, AttachStdout: !o.detach, AttachStderr: !o.detach,
	}
	if err := a.checkInput(req.AttachStdin, req.Tty); err != nil {
		// A container that is not there is the better reason.
		if _, missing := engine.Container(ctx, container); missing != nil {
			return missing
		}
		return err
	}
	if size, ok := a.terminalSize(); ok && o.tty {
		req.ConsoleSize = &[2]uint{uint(size.Height), uint(size.Width)}
	}
	id, err := engine.ExecCreate(ctx, container, req)
	if err != nil {
		return err
	}
	start := client.ExecStart{Detach: o.detach, Tty: o.tty, ConsoleSize: req.ConsoleSize}
	if o.detach {
		return execFailed(engine.ExecStart(ctx, id, start))
	}
	return a.execAttached(ctx, engine, id, req, start, keys)
}

func (a *App) execAttached(ctx context.Context, engine *client.Client, id string, req client.ExecRequest, start client.ExecStart, keys []byte) error {
	conn, err := engine.ExecAttach(ctx, id, start)
	if err != nil {
		if state, unknown := engine.ExecInspect(ctx, id); unknown == nil && state.ExitCode != nil {
			return withCode(*state.ExitCode, err)
		}
		return execFailed(err)
	}
	defer conn.Close()
	if req.Tty {
		stop := a.followSize(func(height, width uint16) { _ = engine.ExecResize(ctx, id, height, width) })
		defer stop()
	}
	x := exchange{tty: req.Tty, keys: keys, out: a.Out, err: a.Err}
	if req.AttachStdin {
		x.in = a.In
	}
	if err := a.exchange(conn, x); err != nil {
		return a.ended(err)
	}
	state, err := engine.ExecInspect(ctx, id)
	if err != nil {
		return err
	}
	if state.ExitCode == nil {
		return errors.New("the engine does not know how the command ended")
	}
	return exitCode(*state.ExitCode)
}

// execFailed is startFailed, but 1 where the command's own fate is not the reason.
func execFailed(err error) error {
	failed := startFailed(err)
	var exit *exitError
	if errors.As(failed, &exit) && exit.code == 125 {
		return err
	}
	return failed
}

func (o *execOptions) environment() ([]string, error) {
	var env []string
	for _, path := range o.envFile {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("--env-file: %w", err)
		}
		lines, err := create.KeyValueLines(content, os.LookupEnv)
		if err != nil {
			return nil, fmt.Errorf("--env-file: %s: %w", path, err)
		}
		env = append(env, lines...)
	}
	for _, v := range o.env {
		v, err := create.Variable(v, os.LookupEnv)
		if err != nil {
			return nil, fmt.Errorf("--env: %w", err)
		}
		env = append(env, v)
	}
	return env, nil
}
