package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"

	"github.com/berth-engine/berth/api/wire"
)

// Result waits for the end and returns the exit status. It closes w.
func (w *Wait) Result() (int, error) {
	defer w.Close()
	var out struct {
		StatusCode int
		Error      *struct{ Message string }
	}
	if err := json.NewDecoder(w.resp.Body).Decode(&out); err != nil {
		return 0, err
	}
	if out.Error != nil && out.Error.Message != "" {
		return out.StatusCode, errors.New(out.Error.Message)
	}
	return out.StatusCode, nil
}

// ExecRequest is the body of POST /containers/{id}/exec.
type ExecRequest struct {
	User         string
	Privileged   bool
	Tty          bool
	ConsoleSize  *[2]uint `json:",omitempty"` // height, width
	AttachStdin  bool
	AttachStderr bool
	AttachStdout bool
	DetachKeys   string
	Env          []string
	WorkingDir   string
	Cmd          []string
}

// ExecStart is the body of POST /exec/{id}/start.
type ExecStart struct {
	Detach      bool
	Tty         bool
	ConsoleSize *[2]uint `json:",omitempty"` // height, width
}

// ExecState is the part of an exec's inspect that says how it ended. ExitCode is nil while it runs.
type ExecState struct {
	Running  bool
	ExitCode *int
}

// ExecCreate prepares a process and returns its id.
func (c *Client) ExecCreate(ctx context.Context, container string, req ExecRequest) (string, error) {
	var out struct {
		ID string `json:"Id"`
	}
	err := c.Call(ctx, "POST", containerPath(container, "/exec"), nil, req, &out)
	return out.ID, err
}

// ExecAttach starts the process and hands its stream over. Berth's engine answers a start that failed with the
// error, Docker's with a stream that says why.
func (c *Client) ExecAttach(ctx context.Context, id string, req ExecStart) (*Stream, error) {
	return c.Upgrade(ctx, Request{Method: "POST", Path: execPath(id, "/start"), JSON: req}, wire.ExecProtocol)
}

// ExecStart starts the process without a stream.
func (c *Client) ExecStart(ctx context.Context, id string, req ExecStart) error {
	return c.Call(ctx, "POST", execPath(id, "/start"), nil, req, nil)
}

// ExecInspect says whether it runs, and how it ended.
func (c *Client) ExecInspect(ctx context.Context, id string) (ExecState, error) {
	var out ExecState
	err := c.Call(ctx, "GET", execPath(id, "/json"), nil, nil, &out)
	return out, err
}

// ExecResize tells the size of the terminal.
func (c *Client) ExecResize(ctx context.Context, id string, height, width uint16) error {
	return c.Call(ctx, "POST", execPath(id, "/resize"), sizeQuery(height, width), nil, nil)
}

func execPath(id, rest string) string { return "/exec/" + url.PathEscape(id) + rest }

// Attach hands the stream of a container over; q has Docker's stream, stdin, stdout, stderr, logs,
// detachKeys.
func (c *Client) Attach(ctx context.Context, name string, q url.Values) (*Stream, error) {
	return c.Upgrade(ctx, Request{Method: "POST", Path: containerPath(name, "/attach"), Query: q}, "tcp")
}
