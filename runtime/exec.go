package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-engine/berth/runtime/protocol"
	"github.com/berth-engine/berth/runtime/seccomp"
)

// ExecConfig is one more process for a running container.
type ExecConfig struct {
	// Process is what is run; user and groups are numbers. Terminal and ConsoleSize are taken from it.
	Process *specs.Process
	// Filter is its seccomp filter, nil: the container's.
	Filter *seccomp.Program
	// Attach says what the stream carries. Output that nobody asked for is thrown away.
	Attach AttachOptions
	// EndWithEngine kills the process when the connection to the engine ends (a health check).
	EndWithEngine bool
}

// ExecProcess is a process that was added.
type ExecProcess struct {
	pid    int
	stream *Stream
}

// Exec runs another process in the container. A process that could not be started is a *StartError.
func (s *Shim) Exec(ctx context.Context, cfg ExecConfig) (*ExecProcess, error) {
	if cfg.Process == nil || len(cfg.Process.Args) == 0 {
		return nil, fmt.Errorf("no command to execute: %w", errdefs.ErrInvalidArgument)
	}
	r := protocol.ExecRequest{Process: cfg.Process, Attach: cfg.Attach.request(), EndWithEngine: cfg.EndWithEngine}
	if cfg.Filter != nil {
		r.Filter, r.FilterBits = cfg.Filter.BPF, cfg.Filter.Flags
	}
	conn, m, err := s.ask(ctx, protocol.Exec, r)
	if err != nil {
		return nil, err
	}
	var started protocol.StartedReply
	switch m.Kind {
	case protocol.Started:
		err = m.Decode(&started)
	case protocol.Failed:
		err = s.refusal(m, cfg.Process.Args)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &ExecProcess{started.Pid, newStream(conn, true)}, nil
}

// Pid returns its process id in the engine's pid namespace, for showing.
func (p *ExecProcess) Pid() int { return p.pid }

// Stream returns the stream. Somebody must read it to its end (Next or Copy) or close it, also when nothing is
// attached. Closing it leaves the process, whose exit Wait still tells.
func (p *ExecProcess) Stream() *Stream { return p.stream }

// Wait waits for the end, which comes after the last byte was read from the stream, or the stream was closed.
func (p *ExecProcess) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.stream.ended:
	case <-ctx.Done():
		return Exit{}, context.Cause(ctx)
	}
	if p.stream.exit.At.IsZero() {
		return Exit{}, p.stream.err
	}
	return p.stream.exit, nil
}

// Resize sets the terminal's size.
func (p *ExecProcess) Resize(_ context.Context, size Size) error { return p.stream.Resize(size) }

// Kill sends the process a signal.
func (p *ExecProcess) Kill(_ context.Context, sig int) error {
	if err := p.stream.conn.Send(protocol.Signal, protocol.SignalRequest{Signal: sig}); err != nil {
		return p.stream.closed(err)
	}
	return nil
}

// Close lets go of the process; it runs on unless EndWithEngine was set.
func (p *ExecProcess) Close() error {
	_ = p.stream.Close()
	err := p.stream.conn.Close()
	<-p.stream.ended
	if isClosed(err) {
		return nil
	}
	return err
}

func isClosed(err error) bool { return errors.Is(err, os.ErrClosed) }
