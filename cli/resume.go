package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"github.com/berth-engine/berth/api/wire"
	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/internal/frame"
)

// An engine that goes away leaves its containers running. When there is one again, a run goes on where it was: what was
// printed is counted, and the container's log has the rest.

const (
	// comeback is how long an engine may be away: a package's upgrade, a service manager's restart.
	comeback = 30 * time.Second
	// knock is how often it is looked for.
	knock = 100 * time.Millisecond
	// silence is how long nothing is said about it.
	silence = 2 * time.Second
)

var (
	errAway   = errors.New("the engine ended the connection; the container goes on (see `berth ps`)")
	errUnseen = errors.New("the container ended, or was removed, while the engine was away: its exit status is not known")
)

// resume stays with the container until its exit, over as many engines as it takes, or until the user detaches.
func (r *runner) resume(ctx context.Context, detached chan struct{}) (wire.RunExitBody, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-detached:
			cancel(errDetached)
		case <-ctx.Done():
		}
	}()
	engine := r.engine.WithoutStart() // whoever stopped the engine meant it
	for {
		if err := r.awaitEngine(ctx, engine); err != nil {
			return wire.RunExitBody{}, err
		}
		code, err := r.follow(ctx, engine)
		var said *client.Error
		switch {
		case err == nil:
			return wire.RunExitBody{Code: code}, nil
		case ctx.Err() != nil:
			return wire.RunExitBody{}, context.Cause(ctx)
		case client.IsNotFound(err):
			return wire.RunExitBody{}, errUnseen
		case errors.As(err, &said), errors.Is(err, errOutput):
			return wire.RunExitBody{}, err
		} // else the connection broke once more
	}
}

// awaitEngine waits until there is an engine that knows of the container.
func (r *runner) awaitEngine(ctx context.Context, engine *client.Client) error {
	said := time.AfterFunc(silence, func() {
		fmt.Fprint(r.app.Err, "berth: the engine is away; waiting until it is there again\r\n")
	})
	defer said.Stop()
	for deadline := time.Now().Add(cmp.Or(r.app.Patience, comeback)); ; {
		_, err := engine.Container(ctx, r.id)
		switch {
		case err == nil:
			return nil
		case client.IsNotFound(err):
			return errUnseen
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Now().After(deadline):
			return errAway
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(knock):
		}
	}
}

// errOutput is wrapped by what our own side could not write.
var errOutput = errors.New("the container's output could not be written")

// follow connects the streams again and returns the container's exit status.
func (r *runner) follow(ctx context.Context, engine *client.Client) (int, error) {
	wait, err := engine.ContainerWait(ctx, r.id, "")
	if err != nil {
		return 0, err
	}
	defer wait.Close()
	if r.request.AttachStdin {
		conn, err := engine.Attach(ctx, r.id, url.Values{"stream": {"1"}, "stdin": {"1"}})
		if err == nil { // else it has ended
			defer conn.Close()
			r.input.connect(rawInput{conn})
		}
	}
	if r.request.Tty {
		if size, ok := r.app.terminalSize(); ok {
			_ = engine.ContainerResize(ctx, r.id, size.Height, size.Width) // it may have ended
		}
	}
	if r.request.AttachStdout || r.request.AttachStderr {
		err := r.rest(ctx, engine)
		if said := (*client.Error)(nil); errors.As(err, &said) { // there is no log
			r.app.warnf("what the container wrote while the engine was away is not there: %v", err)
		} else if err != nil {
			return 0, err
		}
	}
	return wait.Result()
}

// rest prints what the log has beyond what was printed.
func (r *runner) rest(ctx context.Context, engine *client.Client) error {
	q := url.Values{"follow": {"1"}}
	if r.request.AttachStdout {
		q.Set("stdout", "1")
	}
	if r.request.AttachStderr {
		q.Set("stderr", "1")
	}
	resp, err := engine.Do(ctx, client.Request{Method: "GET", Path: "/containers/" + r.id + "/logs", Query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	stdout, stderr := r.out.rest(), r.err.rest()
	if r.request.Tty {
		_, err = io.Copy(stdout, resp.Body)
		return err
	}
	return client.Demultiplex(stdout, stderr, resp.Body)
}

// counted is one of our outputs, and how many bytes of the container's were written to it.
type counted struct {
	to io.Writer
	n  int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	if err != nil {
		err = fmt.Errorf("%w: %w", errOutput, err)
	}
	return n, err
}

// rest is a writer that takes the whole from the beginning, and writes what was not written yet.
func (c *counted) rest() io.Writer { return &skipping{c: c, skip: c.n} }

type skipping struct {
	c    *counted
	skip int64
}

func (s *skipping) Write(p []byte) (int, error) {
	k := min(s.skip, int64(len(p)))
	s.skip -= k
	if int(k) == len(p) {
		return len(p), nil
	}
	n, err := s.c.Write(p[k:])
	return int(k) + n, err
}

// input is what standard input is written to: a connection, until it breaks, and the next one then.
type input struct {
	mu    sync.Mutex
	there sync.Cond
	to    inputSink // nil: none just now
	over  bool      // there will be none any more
}

type inputSink interface {
	io.Writer
	end() error
}

func newInput() *input {
	in := &input{}
	in.there.L = &in.mu
	return in
}

func (in *input) connect(to inputSink) {
	in.mu.Lock()
	in.to = to
	in.mu.Unlock()
	in.there.Broadcast()
}

// close lets whoever waits for a connection go.
func (in *input) close() {
	in.mu.Lock()
	in.over = true
	in.mu.Unlock()
	in.there.Broadcast()
}

// sink waits for a connection that is not broken; nil: there is none any more.
func (in *input) sink(broken inputSink) inputSink {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.to == broken {
		in.to = nil
	}
	for in.to == nil && !in.over {
		in.there.Wait()
	}
	return in.to
}

// Write writes p to whichever connection takes it.
func (in *input) Write(p []byte) (int, error) {
	var to inputSink
	for {
		if to = in.sink(to); to == nil {
			return 0, errAway
		}
		if _, err := to.Write(p); err == nil {
			return len(p), nil
		}
	}
}

// end tells the process that its input has ended.
func (in *input) end() {
	var to inputSink
	for {
		if to = in.sink(to); to == nil || to.end() == nil {
			return
		}
	}
}

// framedInput is the input of a run's own connection, rawInput that of Docker's attach.
type framedInput struct{ w *frame.Writer }

func (f framedInput) Write(p []byte) (int, error) { return f.w.Stream(wire.RunStdin).Write(p) }
func (f framedInput) end() error                  { return f.w.Write(wire.RunStdinEnd, nil) }

type rawInput struct{ conn *client.Stream }

func (i rawInput) Write(p []byte) (int, error) { return i.conn.Write(p) }
func (i rawInput) end() error                  { return i.conn.CloseWrite() }
