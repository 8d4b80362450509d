package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/terminal"
)

// App is one run of the command line: its streams, its environment, and the engine it talks to.
type App struct {
	In       *os.File
	Out, Err io.Writer
	Getenv   func(string) string
	Version  string // of this program, for `berth version` and the User-Agent
	// Patience is how long an engine may be away that a command was in the middle of something with; 0: half a minute.
	Patience time.Duration

	global globalFlags
	engine *client.Client // made when first asked for
}

// globalFlags stand before the command.
type globalFlags struct {
	config   string
	context  string
	debug    bool
	hosts    []string
	logLevel string
}

// DefaultHost is where an engine is looked for, and started when there is none.
const DefaultHost = "unix:///run/berth/berth.sock"

// client returns the engine to talk to: -H, BERTH_HOST, DOCKER_HOST, else the default socket.
func (a *App) client() (*client.Client, error) {
	if a.engine != nil {
		return a.engine, nil
	}
	host, err := a.host()
	if err != nil {
		return nil, err
	}
	c, err := client.New(host, "berth/"+a.Version)
	if err != nil {
		return nil, err
	}
	if v := a.Getenv("DOCKER_API_VERSION"); v != "" {
		c.SetVersion(v)
	}
	if host == DefaultHost && os.Geteuid() == 0 {
		c.Start = startEngine
	}
	a.engine = c
	return c, nil
}

func (a *App) host() (string, error) {
	if len(a.global.hosts) > 1 {
		return "", errors.New("specify only one -H")
	}
	if a.global.context != "" && a.global.context != "default" {
		return "", fmt.Errorf("contexts are not supported yet: name the engine with -H instead of --context %s", a.global.context)
	}
	host := DefaultHost
	switch {
	case len(a.global.hosts) == 1 && a.global.hosts[0] != "":
		host = a.global.hosts[0]
	case a.Getenv("BERTH_HOST") != "":
		host = a.Getenv("BERTH_HOST")
	case a.Getenv("DOCKER_HOST") != "":
		host = a.Getenv("DOCKER_HOST")
	}
	if filepath.IsAbs(host) {
		host = "unix://" + host
	}
	return host, nil
}

// outFile is stdout when it is a file (it may be a terminal), else nil.
func (a *App) outFile() *os.File { f, _ := a.Out.(*os.File); return f }

func (a *App) outIsTerminal() bool { return terminal.Is(a.outFile()) }

func (a *App) errIsTerminal() bool { f, _ := a.Err.(*os.File); return terminal.Is(f) }

func (a *App) inIsTerminal() bool { return terminal.Is(a.In) }

func (a *App) printf(format string, args ...any) { fmt.Fprintf(a.Out, format, args...) }

func (a *App) warnf(format string, args ...any) {
	fmt.Fprintf(a.Err, "berth: warning: "+format+"\n", args...)
}

// exitError ends the command with a code; without err nothing is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exitCode lets the command end with the code, silently.
func exitCode(code int) error {
	if code == 0 {
		return nil
	}
	return &exitError{code: code}
}

// withCode gives an error its exit code.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: code, err: err}
}

// each calls do for every name, several at once (stopping takes seconds), and prints what it returns,
// in the order of the names. What fails is reported, the rest is still done; the command then ends
// with 1.
func (a *App) each(names []string, do func(name string) (string, error)) error {
	type result struct {
		line string
		err  error
	}
	results := make([]chan result, len(names))
	slots := make(chan struct{}, 32)
	for i, name := range names {
		results[i] = make(chan result, 1)
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			line, err := do(name)
			results[i] <- result{line, err}
		}()
	}
	failed := false
	for _, c := range results {
		r := <-c
		if r.line != "" {
			a.printf("%s\n", r.line)
		}
		if r.err != nil {
			a.report(r.err)
			failed = true
		}
	}
	if failed {
		return exitCode(1)
	}
	return nil
}

// report prints an error in the one form that errors have.
func (a *App) report(err error) {
	fmt.Fprintf(a.Err, "berth: %s\n", strings.TrimRight(err.Error(), "\n"))
}

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, a *App, args []string) int {
	err := a.execute(ctx, args)
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.err != nil {
			a.report(exit.err)
		}
		return exit.code
	}
	a.report(err)
	return 1
}
