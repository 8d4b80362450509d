package runtime

import (
	"context"
	"io"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// AttachOptions say what a stream carries.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	// DropWhenSlow ends the stream (ErrSlow) when its reader falls more than 256 KiB behind. Without, as in
	// Docker, the container's writes wait for a reader that is attached and slow; never for one that is gone.
	DropWhenSlow bool
}

// Kind says which stream a piece of output belongs to. The values are those of Docker's multiplexed streams.
type Kind byte

const (
	Stdout Kind = 1
	Stderr Kind = 2
)

// Stream is an attachment to a process: its input one way, its output and its exit the other.
// Write, CloseWrite and Resize may be used beside Next.
type Stream struct{}

// Next returns the next piece of output, valid until the next call. With a terminal everything is Stdout.
// After the last byte the error is io.EOF, and Exit tells the status; ErrSlow when the stream was dropped;
// another error when the connection broke (the shim was lost).
func (s *Stream) Next() (Kind, []byte, error) { return 0, nil, io.EOF }

// Exit returns how the process ended, after Next returned io.EOF.
func (s *Stream) Exit() Exit { return Exit{} }

// Copy writes all output to stdout and stderr (nil: dropped) until the process ends.
func (s *Stream) Copy(stdout, stderr io.Writer) (Exit, error) { return Exit{}, errNotBuilt }

// Write sends stdin. It waits while the process does not read.
func (s *Stream) Write(p []byte) (int, error) { return 0, errNotBuilt }

// CloseWrite is the end of stdin (see Stdin for what it means to the process). Without it, the end of the
// stream, or of the engine, is no end of the process's stdin.
func (s *Stream) CloseWrite() error { return errNotBuilt }

// Resize sets the terminal's size.
func (s *Stream) Resize(size Size) error { return errNotBuilt }

// Close detaches. The process runs on.
func (s *Stream) Close() error { return nil }

// ExecConfig is one more process for a running container.
type ExecConfig struct {
	// Process is what is run; user and groups are numbers. Terminal and ConsoleSize are taken from it.
	Process *specs.Process
	// Attach says what the stream carries. Output that nobody asked for is thrown away.
	Attach AttachOptions
	// EndWithEngine kills the process when the connection to the engine ends (a health check).
	EndWithEngine bool
}

// ExecProcess is a process that was added.
type ExecProcess struct{}

// Pid returns its process id in the engine's pid namespace, for showing.
func (p *ExecProcess) Pid() int { return 0 }

// Stream returns the stream. Somebody must read it to its end (Next or Copy), also when nothing is attached:
// the exit status comes on it.
func (p *ExecProcess) Stream() *Stream { return nil }

// Wait waits for the end. Output that was not read by Stream().Next before is dropped.
func (p *ExecProcess) Wait(ctx context.Context) (Exit, error) { return Exit{}, errNotBuilt }

// Resize sets the terminal's size.
func (p *ExecProcess) Resize(ctx context.Context, size Size) error { return errNotBuilt }

// Kill sends the process a signal.
func (p *ExecProcess) Kill(ctx context.Context, sig int) error { return errNotBuilt }

// Close lets go of the process; it runs on unless EndWithEngine was set.
func (p *ExecProcess) Close() error { return nil }
