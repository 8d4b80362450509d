package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/berth-engine/berth/api/wire"
	"github.com/berth-engine/berth/engine"
	"github.com/berth-engine/berth/internal/frame"
	"github.com/berth-engine/berth/registry"
	"github.com/berth-engine/berth/runtime"
	"github.com/distribution/reference"
)

// run is create, attach, start and wait on one connection (api/wire). What goes wrong comes as the
// Exit frame. When the connection ends without a Detach, the client has died: the container stays.
func (s *Server) run(w http.ResponseWriter, r *http.Request) error {
	var req wire.RunRequest
	f, err := openFramed(w, r, wire.RunRequestFrame, &req)
	if err != nil || f == nil {
		return err
	}
	// What the client still sends is read by one only: by the listener once there is one.
	var client *runClient
	defer func() {
		if client == nil {
			f.finish()
			return
		}
		f.finishWith(client.drain)
	}()
	exit, err := wire.RunExitBody{}, f.bad
	if err == nil {
		ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
		defer cancel()
		client = listen(f.up, cancel)
		exit, err = s.runContainer(ctx, req, client, f.down)
	}
	if err != nil {
		exit = wire.RunExitBody{Code: exitStatus(err), Error: message(err)}
	}
	_ = f.down.WriteJSON(wire.RunExit, exit) // the client has gone
	return nil
}

func (s *Server) runContainer(ctx context.Context, req wire.RunRequest, client *runClient, down *frame.Writer) (wire.RunExitBody, error) {
	create, err := s.createRequest(req.Create, req.Name, req.Platform)
	if err != nil {
		return wire.RunExitBody{}, err
	}
	if req.Size != nil {
		create.Config.Process.ConsoleHeight, create.Config.Process.ConsoleWidth = req.Size.Height, req.Size.Width
	}
	if req.Pull == "never" && !s.engine.HasImage(create.Config.Image) {
		return wire.RunExitBody{Code: 125, ImageMissing: true, Error: "No such image: " + create.Config.Image}, nil
	}
	if err := s.bring(ctx, req, create, down); err != nil {
		return wire.RunExitBody{}, err
	}
	attach := runtime.AttachOptions{Stdin: req.Stdin, Stdout: req.Stdout, Stderr: req.Stderr}
	if req.Detach {
		attach = runtime.AttachOptions{}
	}
	running, err := s.engine.Run(ctx, engine.RunRequest{CreateRequest: create, Attach: attach}, func(id string, warnings []string) error {
		return down.WriteJSON(wire.RunCreated, wire.RunCreatedBody{ID: id, Warnings: warnings})
	})
	if err != nil {
		return wire.RunExitBody{}, err
	}
	defer running.Forget()
	if running.Stream != nil {
		defer running.Stream.Close()
	}
	if err := down.Write(wire.RunStarted, nil); err != nil || req.Detach {
		return wire.RunExitBody{}, nil
	}
	go client.serve(ctx, s, running)
	if running.Stream != nil {
		if _, err := running.Stream.Copy(down.Stream(wire.RunStdout), down.Stream(wire.RunStderr)); err != nil && client.left() {
			return wire.RunExitBody{}, nil
		}
	}
	select {
	case ended := <-running.Ended:
		return wire.RunExitBody{Code: ended.ExitCode, Error: ended.Error}, nil
	case <-client.gone:
		return wire.RunExitBody{}, nil
	}
}

// bring pulls the image if it has to come.
func (s *Server) bring(ctx context.Context, req wire.RunRequest, create engine.CreateRequest, down *frame.Writer) error {
	here := s.engine.HasImage(create.Config.Image)
	switch req.Pull {
	case "never":
		return nil
	case "", "missing":
		if here {
			return nil
		}
	case "always":
	default:
		return invalid(fmt.Sprintf("invalid pull option: '%s': must be one of \"always\", \"missing\" or \"never\"", req.Pull))
	}
	ref, err := pullName(create.Config.Image, "")
	if err != nil {
		return err
	}
	o := engine.PullOptions{Platform: create.Platform}
	if o.Credentials, err = credentials(req.Auth); err != nil {
		return err
	}
	o.Progress = func(ev registry.Event) { _ = down.WriteJSON(wire.RunProgress, pullLine(ev)) } // a client that has gone is seen by its context
	p, err := s.engine.Pull(ctx, ref, o)
	if err != nil {
		return err
	}
	return down.WriteJSON(wire.RunProgress, map[string]string{"status": "Digest: " + p.Digest.String() + " (" + reference.FamiliarString(ref) + ")"})
}

// runClient is what comes from the command line. Frames are read from the beginning, so that a client
// that dies during a pull is noticed.
type runClient struct {
	frames chan clientFrame // closed when the client has gone
	gone   chan struct{}
}

type clientFrame struct {
	kind    frame.Kind
	payload []byte
}

// listen reads frames until the client goes; then it calls dead, unless a Detach came before.
func listen(up *frame.Reader, dead func()) *runClient {
	c := &runClient{frames: make(chan clientFrame, 16), gone: make(chan struct{})}
	go func() {
		defer close(c.gone)
		defer close(c.frames)
		for {
			kind, payload, err := up.Next()
			if err != nil {
				dead()
				return
			}
			if kind == wire.RunDetach {
				return
			}
			c.frames <- clientFrame{kind, append([]byte(nil), payload...)}
		}
	}()
	return c
}

func (c *runClient) left() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// drain throws away what the client still sends, until it goes.
func (c *runClient) drain() {
	for range c.frames {
	}
}

// serve does what the client says, until it goes; then the stream is detached.
func (c *runClient) serve(ctx context.Context, s *Server, r *engine.Running) {
	for f := range c.frames {
		if err := c.do(ctx, s, r, f); err != nil {
			s.log.Debug("a frame of a run could not be dealt with", "kind", f.kind, "error", err)
		}
	}
	if r.Stream != nil {
		_ = r.Stream.Close() // detaching can't fail in a way that matters
	}
}

func (c *runClient) do(ctx context.Context, s *Server, r *engine.Running, f clientFrame) error {
	switch f.kind {
	case wire.RunStdin:
		if r.Stream == nil {
			return nil
		}
		_, err := r.Stream.Write(f.payload)
		return err
	case wire.RunStdinEnd:
		if r.Stream == nil {
			return nil
		}
		return r.Stream.CloseWrite()
	case wire.RunResize:
		var size wire.Size
		if err := json.Unmarshal(f.payload, &size); err != nil {
			return err
		}
		return s.engine.Resize(ctx, r.ID, runtime.Size{Height: size.Height, Width: size.Width})
	case wire.RunSignal:
		var sig wire.Signal
		if err := json.Unmarshal(f.payload, &sig); err != nil {
			return err
		}
		return s.engine.Signal(ctx, r, sig.Number)
	}
	return fmt.Errorf("a frame of kind %d is not known", f.kind)
}
