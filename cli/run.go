package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/api/wire"
	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/create"
	"github.com/berth-engine/berth/cli/progress"
	"github.com/berth-engine/berth/cli/terminal"
	"github.com/berth-engine/berth/internal/detachkeys"
	"github.com/berth-engine/berth/internal/frame"
)

// createOptions are what run and create share beside the container's own flags.
type createOptions struct {
	flags                create.Flags
	name, pull, platform string
	quiet                bool
}

func (o *createOptions) register(c *cobra.Command) {
	fs := c.Flags()
	fs.SetInterspersed(false) // what follows the image belongs to the container
	fs.StringVar(&o.name, "name", "", "Assign a name to the container")
	fs.StringVar(&o.pull, "pull", "missing", `Pull image before running ("always", "missing", "never")`)
	fs.StringVar(&o.platform, "platform", "", "Set platform if server is multi-platform capable")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the pull output")
	contentTrust(fs)
	o.flags.LookupEnv = os.LookupEnv
	o.flags.Register(fs)
}

// request reads the words and makes the body of the create.
func (o *createOptions) request(a *App, c *cobra.Command, args []string) (client.CreateRequest, error) {
	switch o.pull {
	case "always", "missing", "never":
	case "":
		o.pull = "missing"
	default:
		return client.CreateRequest{}, withCode(125, fmt.Errorf("invalid --pull %q: it can be always, missing or never", o.pull))
	}
	o.flags.Image, o.flags.Args = args[0], args[1:]
	req, err := o.flags.Request(c.Flags())
	if err != nil {
		return req, withCode(125, err)
	}
	if err := a.addProxies(&req); err != nil {
		return req, withCode(125, err)
	}
	return req, nil
}

type runOptions struct {
	createOptions
	detach, sigProxy bool
	detachKeys       string
}

func setupRun(a *App, c *cobra.Command) {
	var o runOptions
	c.Use = "run [OPTIONS] IMAGE [COMMAND] [ARG...]"
	c.Example = "berth run --rm -it debian bash"
	c.Args = nArgs(1, -1)
	o.register(c)
	fs := c.Flags()
	fs.BoolVarP(&o.detach, "detach", "d", false, "Run container in background and print container ID")
	fs.BoolVar(&o.sigProxy, "sig-proxy", true, "Proxy received signals to the process")
	fs.StringVar(&o.detachKeys, "detach-keys", "", "Override the key sequence for detaching a container")
	c.RunE = func(c *cobra.Command, args []string) error { return a.run(c.Context(), c, o, args) }
}

func (a *App) run(ctx context.Context, c *cobra.Command, o runOptions, args []string) error {
	if o.detach && o.flags.Attached() {
		return withCode(125, errors.New("--attach and --detach exclude each other"))
	}
	o.flags.Detach = o.detach
	req, err := o.request(a, c, args)
	if err != nil {
		return err
	}
	if err := a.checkInput(req.AttachStdin, req.Tty); err != nil {
		return err
	}
	keys, err := a.detachKeys(o.detachKeys)
	if err != nil {
		return withCode(125, err)
	}
	cid, err := createCIDFile(o.flags.CIDFile())
	if err != nil {
		return withCode(125, err)
	}
	defer cid.Close()
	engine, err := a.client()
	if err != nil {
		return withCode(125, err)
	}
	r := &runner{app: a, engine: engine, options: o, request: req, keys: keys, cid: cid}
	r.created, r.started, r.ready = make(chan struct{}), make(chan struct{}), make(chan struct{})
	r.out, r.err, r.input = &counted{to: a.Out}, &counted{to: a.Err}, newInput()
	defer r.input.close()
	err = r.run(ctx)
	var exit *exitError
	if err != nil && !errors.As(err, &exit) {
		err = withCode(125, err)
	}
	return err
}

// runner is one `berth run`.
type runner struct {
	app     *App
	engine  *client.Client
	options runOptions
	request client.CreateRequest
	keys    []byte
	cid     *cidFile

	id       string        // of the container; set before created is closed
	created  chan struct{} // closed when there is a container
	started  chan struct{} // closed when it runs
	ready    chan struct{} // closed when signals are passed on
	proxying bool
	running  bool
	out, err *counted // what the container writes
	input    *input   // what it reads
	restore  func()   // of the terminal; nil while it is not raw
}

// proxies tells whether signals go to the container. With a terminal as input they are keys.
func (r *runner) proxies() bool {
	return r.options.sigProxy && !r.options.detach && !(r.request.Tty && r.request.AttachStdin)
}

// run asks without a pull first: a run of a local image reads no configuration and asks no credential
// helper.
func (r *runner) run(ctx context.Context) error {
	policy := r.options.pull
	if policy == "missing" {
		exit, err := r.attempt(ctx, "never", "")
		if err != nil || !exit.ImageMissing {
			return r.end(exit, err)
		}
		fmt.Fprintf(r.app.Err, "Unable to find image '%s' locally\n", familiarWithTag(r.request.Image))
	}
	auth := ""
	if policy != "never" {
		var err error
		if auth, err = r.app.registryAuth(r.request.Image); err != nil {
			return err
		}
	}
	exit, err := r.attempt(ctx, policy, auth)
	return r.end(exit, err)
}

func (r *runner) end(exit wire.RunExitBody, err error) error {
	if r.restore != nil {
		r.restore()
	}
	switch {
	case err != nil:
		return err
	case exit.Error != "":
		return withCode(exit.Code, errors.New(exit.Error))
	}
	return exitCode(exit.Code)
}

// attempt makes the one request and stays with its connection until the exit.
func (r *runner) attempt(ctx context.Context, pull, auth string) (wire.RunExitBody, error) {
	var none wire.RunExitBody
	// Encoding meets every type for the first time, which takes as long as the way to the engine and back.
	var (
		first      []byte
		unsendable error
		encoded    = make(chan struct{})
	)
	go func() {
		defer close(encoded)
		first, unsendable = r.first(pull, auth)
	}()
	conn, err := r.engine.Upgrade(ctx, client.Request{Method: "POST", Path: wire.RunPath, Unversioned: true}, "berth")
	<-encoded
	if client.IsNotFound(err) {
		return none, r.runOverDocker(ctx)
	}
	if err != nil {
		return none, err
	}
	defer conn.Close()
	w := frame.NewWriter(conn)
	if err = unsendable; err == nil {
		err = w.Write(wire.RunRequestFrame, first)
	}
	if err != nil {
		return none, fmt.Errorf("the request could not be sent: %w", err)
	}
	return r.converse(ctx, conn, w)
}

// first is the first frame.
func (r *runner) first(pull, auth string) ([]byte, error) {
	req := wire.RunRequest{
		Name: r.options.name, Platform: r.options.platform, Pull: pull, Auth: auth, Detach: r.options.detach,
		Stdin: r.request.AttachStdin, Stdout: r.request.AttachStdout, Stderr: r.request.AttachStderr,
	}
	if r.request.Tty {
		if size, ok := r.app.terminalSize(); ok {
			req.Size = &wire.Size{Height: size.Height, Width: size.Width}
			r.request.HostConfig.ConsoleSize = [2]uint{uint(size.Height), uint(size.Width)}
		}
	}
	var err error
	if req.Create, err = json.Marshal(r.request); err != nil {
		return nil, err
	}
	return json.Marshal(req)
}

// converse reads the engine's frames; what comes from this side (keys, signals, sizes) is sent beside.
func (r *runner) converse(ctx context.Context, conn *client.Stream, w *frame.Writer) (wire.RunExitBody, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	detached := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if r.proxies() && !r.proxying {
		r.proxying = true
		go r.proxySignals(ctx)
	}
	var pull *progress.Stream
	frames := frame.NewReader(conn)
	for {
		kind, payload, err := frames.Next()
		if err != nil {
			return r.lost(ctx, detached, err)
		}
		switch kind {
		case wire.RunProgress:
			if pull == nil {
				pull = r.app.progressTo(r.app.Err, r.options.quiet)
			}
			if err := pull.Line(payload); err != nil {
				return wire.RunExitBody{}, err
			}
		case wire.RunCreated:
			if pull != nil {
				pull.Close()
			}
			if err := r.onCreated(payload); err != nil {
				return wire.RunExitBody{}, err
			}
		case wire.RunStarted:
			if r.running || r.id == "" {
				return wire.RunExitBody{}, errTwice
			}
			r.running = true
			if err := r.onStarted(ctx, w, detached, conn); err != nil {
				return wire.RunExitBody{}, err
			}
		case wire.RunStdout:
			_, err = r.out.Write(payload)
		case wire.RunStderr:
			_, err = r.err.Write(payload)
		case wire.RunExit:
			var exit wire.RunExitBody
			if err := json.Unmarshal(payload, &exit); err != nil {
				return exit, fmt.Errorf("the engine's last word could not be read: %w", err)
			}
			if pull != nil {
				pull.Close()
			}
			return exit, nil
		default:
			return wire.RunExitBody{}, fmt.Errorf("the engine sent a frame of the unknown kind %d: is it newer than this program?", kind)
		}
		if err != nil {
			return wire.RunExitBody{}, err
		}
	}
}

// lost tells an end of the connection that the user asked for from one that he did not: after that it goes on.
func (r *runner) lost(ctx context.Context, detached chan struct{}, err error) (wire.RunExitBody, error) {
	var none wire.RunExitBody
	select {
	case <-detached:
		r.restoreTerminal()
		fmt.Fprintln(r.app.Err, "read escape sequence")
		return none, errDetached
	default:
	}
	if ctx.Err() == nil && r.running && !r.options.detach {
		exit, err := r.resume(ctx, detached)
		r.restoreTerminal()
		if errors.Is(err, errDetached) {
			fmt.Fprintln(r.app.Err, "read escape sequence")
		}
		return exit, err
	}
	r.restoreTerminal()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return none, errAway
	}
	return none, fmt.Errorf("the connection to the engine broke: %w", err)
}

// errTwice is for an engine that says things twice or in the wrong order (api/wire has the order).
var errTwice = errors.New("the engine's frames came out of order")

// errDetached ends the command with 0.
var errDetached = &exitError{code: 0}

func (r *runner) restoreTerminal() {
	if r.restore != nil {
		r.restore()
	}
}

func (r *runner) onCreated(payload []byte) error {
	var body wire.RunCreatedBody
	if err := json.Unmarshal(payload, &body); err != nil {
		return fmt.Errorf("the engine's answer could not be read: %w", err)
	}
	if r.id != "" {
		return errTwice
	}
	r.id = body.ID
	close(r.created)
	for _, warning := range body.Warnings {
		r.app.warnf("%s", warning)
	}
	if r.options.detach {
		r.app.printf("%s\n", body.ID)
	}
	return r.cid.write(body.ID)
}

// onStarted makes the terminal raw and lets keys, signals and sizes through.
func (r *runner) onStarted(ctx context.Context, w *frame.Writer, detached chan struct{}, conn *client.Stream) error {
	if r.options.detach {
		return nil
	}
	if r.request.Tty && r.request.AttachStdin {
		restore, err := r.app.rawTerminal()
		if err != nil {
			return err
		}
		r.restore = restore
	}
	if r.request.Tty {
		if f := r.app.outFile(); terminal.Is(f) {
			sizes, _ := terminal.Resizes(f)
			go func() {
				for size := range sizes {
					if w.WriteJSON(wire.RunResize, wire.Size{Height: size.Height, Width: size.Width}) != nil { // another engine
						_ = r.engine.WithoutStart().ContainerResize(context.WithoutCancel(ctx), r.id, size.Height, size.Width)
					}
				}
			}()
			// The size may have changed since the request was made.
			if size, ok := r.app.terminalSize(); ok {
				_ = w.WriteJSON(wire.RunResize, wire.Size{Height: size.Height, Width: size.Width})
			}
		}
	}
	close(r.started)
	if r.proxies() {
		<-r.ready
	}
	if r.request.AttachStdin {
		r.input.connect(framedInput{w})
		go r.sendInput(w, detached, conn)
	}
	return nil
}

// sendInput goes on until the end of stdin; a read from it cannot be interrupted, so nobody waits for
// this at the end of the program.
func (r *runner) sendInput(w *frame.Writer, detached chan struct{}, conn *client.Stream) {
	var in io.Reader = r.app.In
	if r.request.Tty {
		in = detachkeys.Reader(in, r.keys)
	}
	_, err := io.Copy(r.input, in)
	if errors.Is(err, detachkeys.ErrDetached) {
		close(detached)
		_ = w.Write(wire.RunDetach, nil)
		conn.Close()
		return
	}
	r.input.end()
}

// passedOn are the signals that mean something to another process. Not every signal that there is:
// the runtime needs two switches of threads for each (0.3 ms for all of them).
func passedOn() []os.Signal {
	return []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGTERM,
	}
}

// patience is how many times SIGINT and SIGTERM may come before the program ends without its container, which
// may take no notice of them: as many as Docker's has.
const patience = 3

// forwardSignals passes signals on to a container, until the program ends.
func (a *App) forwardSignals(send func(syscall.Signal)) {
	signals, toSend := make(chan os.Signal, 64), make(chan syscall.Signal, 64)
	signal.Notify(signals, passedOn()...)
	go func() {
		asked := 0
		for s := range signals {
			if s == syscall.SIGINT || s == syscall.SIGTERM {
				asked++
			}
			if asked == patience {
				fmt.Fprintf(a.Err, "\nberth: got %d SIGTERM/SIGINTs, exiting: the container may still run\n", patience)
				os.Exit(1)
			}
			select {
			case toSend <- s.(syscall.Signal):
			default: // the engine does not answer
			}
		}
	}()
	go func() {
		for s := range toSend {
			send(s)
		}
	}()
}

// proxySignals is forwardSignals from the moment when the request is on its way, while the engine
// works. Before there is a container a signal ends the program, and with it a pull; one that comes
// before the start waits for it.
func (r *runner) proxySignals(ctx context.Context) {
	r.app.forwardSignals(func(sig syscall.Signal) {
		select {
		case <-r.created:
		default:
			os.Exit(128 + int(sig))
		}
		<-r.started
		_ = r.engine.WithoutStart().ContainerDo(context.WithoutCancel(ctx), r.id, "kill", url.Values{"signal": {strconv.Itoa(int(sig))}})
	})
	close(r.ready)
}

// rawTerminal makes stdin's terminal raw. restore puts it back; so does a signal that ends this program.
func (a *App) rawTerminal() (restore func(), err error) {
	signals := make(chan os.Signal, 1)
	// Before the terminal is raw: no moment is left in which a signal could leave it so.
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	restore, err = terminal.Raw(a.In)
	if err != nil {
		signal.Stop(signals)
		return nil, fmt.Errorf("the terminal could not be made raw: %w", err)
	}
	restoreAndDie(signals, restore)
	return restore, nil
}

func restoreAndDie(signals <-chan os.Signal, restore func()) {
	go func() {
		s := <-signals
		restore()
		os.Exit(128 + int(s.(syscall.Signal)))
	}()
}
