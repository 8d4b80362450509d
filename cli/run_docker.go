package cli

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"github.com/berth-engine/berth/cli/client"
)

// runOverDocker is `run` on an engine that is not Berth's: create, attach, wait, start, as Docker's own
// client does it.
func (r *runner) runOverDocker(ctx context.Context) error {
	id, err := r.app.create(ctx, &createOptions{
		name: r.options.name, pull: r.options.pull, platform: r.options.platform, quiet: r.options.quiet,
	}, r.request)
	if err != nil {
		return err
	}
	if err := r.cid.write(id); err != nil {
		return err
	}
	if r.options.detach {
		if err := r.engine.ContainerDo(ctx, id, "start", nil); err != nil {
			return startFailed(err)
		}
		r.app.printf("%s\n", id)
		return nil
	}
	return r.app.startAttached(ctx, attached{
		id: id, tty: r.request.Tty, stdin: r.request.AttachStdin, stdout: r.request.AttachStdout, stderr: r.request.AttachStderr,
		removed: r.request.HostConfig.AutoRemove, sigProxy: r.options.sigProxy, keys: r.keys, flag: r.options.detachKeys,
	})
}

// attached says how this program takes part in a container.
type attached struct {
	id                         string
	tty, stdin, stdout, stderr bool
	removed                    bool // the container goes away when it ends
	sigProxy                   bool
	keys                       []byte
	flag                       string // --detach-keys as given, for the engine
	noStart                    bool   // it runs already
}

// startAttached attaches first, then waits, then starts: nothing of the output is lost, and neither is
// the exit of a container that is removed at once.
func (a *App) startAttached(ctx context.Context, at attached) error {
	engine, err := a.client()
	if err != nil {
		return err
	}
	q := url.Values{"stream": {"1"}}
	for name, on := range map[string]bool{"stdin": at.stdin, "stdout": at.stdout, "stderr": at.stderr} {
		if on {
			q.Set(name, "1")
		}
	}
	if at.flag != "" {
		q.Set("detachKeys", at.flag)
	}
	conn, err := engine.Attach(ctx, at.id, q)
	if err != nil {
		return err
	}
	defer conn.Close()
	condition := "next-exit"
	switch {
	case at.removed:
		condition = "removed"
	case at.noStart:
		condition = ""
	}
	wait, err := engine.ContainerWait(ctx, at.id, condition)
	if err != nil {
		return err
	}
	defer wait.Close()
	if at.sigProxy && !at.tty {
		a.forwardSignals(func(sig syscall.Signal) {
			_ = engine.ContainerDo(ctx, at.id, "kill", url.Values{"signal": {strconv.Itoa(int(sig))}})
		})
	}
	if !at.noStart {
		if err := engine.ContainerDo(ctx, at.id, "start", nil); err != nil {
			return startFailed(err)
		}
	}
	if at.tty {
		if size, ok := a.terminalSize(); ok && at.noStart { // another size first: the program draws anew what it shows
			_ = engine.ContainerResize(ctx, at.id, size.Height+1, size.Width+1)
		}
		stop := a.followSize(func(height, width uint16) { _ = engine.ContainerResize(ctx, at.id, height, width) })
		defer stop()
	}
	x := exchange{tty: at.tty, keys: at.keys, out: a.Out, err: a.Err}
	if at.stdin {
		x.in = a.In
	}
	if err := a.exchange(conn, x); err != nil {
		return a.ended(err)
	}
	code, err := wait.Result()
	if err != nil {
		return withCode(125, err)
	}
	return exitCode(code)
}

// startFailed gives a failed start the exit code that a shell would: 127 not found, 126 not
// executable, 125 everything else.
func startFailed(err error) error {
	code := 125
	var e *client.Error
	if errors.As(err, &e) {
		switch {
		case strings.Contains(e.Message, "executable file not found"), strings.Contains(e.Message, "no such file or directory"), strings.Contains(e.Message, "system cannot find the file specified"):
			code = 127
		case strings.Contains(e.Message, syscall.EACCES.Error()), strings.Contains(e.Message, syscall.EISDIR.Error()), strings.Contains(e.Message, syscall.ENOEXEC.Error()):
			code = 126
		}
	}
	return withCode(code, err)
}
