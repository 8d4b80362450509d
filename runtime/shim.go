package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/protocol"
)

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// Shim is the engine's hold on the process that owns one container.
type Shim struct {
	launcher *Launcher
	id, dir  string
	pid      int
	started  time.Time
	cgroup   string
	attached *Stream

	conn    *protocol.Conn  // in phase Running or Watching
	process *shimProcess    // that conn is the launch connection of; nil: an earlier engine's
	ctx     context.Context // ends with Close; for what watch does when the shim is lost
	cancel  context.CancelFunc
	closing sync.Once
	done    chan struct{} // closed when exit is set
	exit    Exit
	err     error // why exit is not known
}

// newShim returns the hold on a shim whose end is said on conn. It outlives ctx.
func newShim(ctx context.Context, l *Launcher, id, dir string, conn *protocol.Conn) *Shim {
	s := &Shim{launcher: l, id: id, dir: dir, conn: conn, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

// watch waits for the exit. A shim that is lost has its container killed.
func (s *Shim) watch() {
	go func() {
		m, err := s.conn.Recv()
		if s.ctx.Err() != nil {
			_ = s.conn.Close()
			return // done is never closed: nobody asks any more
		}
		if err == nil {
			var r protocol.ExitReport
			if s.err = m.Decode(&r); s.err == nil {
				s.exit = exitOf(r)
			}
		} else {
			s.exit, s.err = s.launcher.lost(s.ctx, s.id, s.dir, s.cgroup)
		}
		s.dismiss(err == nil)
		close(s.done)
	}()
}

func exitOf(r protocol.ExitReport) Exit {
	return Exit{Status: r.Status, At: r.At, OOMKilled: r.OOMKilled, LogEnd: LogEnd{Offset: r.LogOffset, Dropped: r.LogDropped}, Lost: r.Lost}
}

// ID returns the container's id.
func (s *Shim) ID() string { return s.id }

// Pid returns the process id of the container's first process in the engine's pid namespace. It is for
// showing, never for sending signals.
func (s *Shim) Pid() int { return s.pid }

// Started returns when the process was executed.
func (s *Shim) Started() time.Time { return s.started }

// Cgroup returns the container's cgroup as runtime/cgroup names it.
func (s *Shim) Cgroup() string { return s.cgroup }

// Attached returns the stream that Config.Attach asked for, nil without. It is the caller's to close.
func (s *Shim) Attached() *Stream { return s.attached }

// Attach attaches a stream to the running container. What was written before is in the log only.
func (s *Shim) Attach(ctx context.Context, opts AttachOptions) (*Stream, error) {
	conn, m, err := s.ask(ctx, protocol.Attach, opts.request())
	if err != nil {
		return nil, err
	}
	if m.Kind == protocol.Failed {
		return nil, errors.Join(s.refusal(m, nil), conn.Close())
	}
	return newStream(conn, false), nil
}

// Signal sends sig to the container's first process, or with all to every process in its cgroup.
// The error is errdefs.ErrNotFound when it has ended.
func (s *Shim) Signal(ctx context.Context, sig int, all bool) error {
	return s.call(ctx, protocol.Signal, protocol.SignalRequest{Signal: sig, All: all})
}

// Resize sets the terminal's size. Without a terminal the error is errdefs.ErrFailedPrecondition.
func (s *Shim) Resize(ctx context.Context, size Size) error {
	return s.call(ctx, protocol.Resize, protocol.Size(size))
}

// Wait waits until the container has ended. It may be called any number of times, at any time.
func (s *Shim) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-s.done:
		return s.exit, s.err
	case <-ctx.Done():
		return Exit{}, context.Cause(ctx)
	}
}

// Done is closed when the container has ended; Wait then returns at once.
func (s *Shim) Done() <-chan struct{} { return s.done }

// State asks the shim.
func (s *Shim) State(ctx context.Context) (State, error) {
	conn, m, err := s.ask(ctx, protocol.Ask, nil)
	if err != nil {
		return State{}, err
	}
	defer conn.Close()
	var r protocol.State
	if err := m.Decode(&r); err != nil {
		return State{}, err
	}
	state := State{ID: r.ID, Pid: r.Pid, Started: r.Started, Terminal: r.Terminal, OpenStdin: r.OpenStdin, Execs: r.Execs, Protocol: r.Version}
	if r.Exited != nil {
		exit := exitOf(*r.Exited)
		state.Exited = &exit
	}
	return state, nil
}

// Rootfs returns an O_PATH descriptor of the container's root directory, with everything that is mounted
// below it in the container. It is the caller's to close, and must be used with RESOLVE_IN_ROOT only.
func (s *Shim) Rootfs(ctx context.Context) (*os.File, error) {
	conn, m, err := s.ask(ctx, protocol.Rootfs, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if m.Kind == protocol.Failed {
		return nil, s.refusal(m, nil)
	}
	if len(m.Files) != 1 {
		m.Close()
		return nil, fmt.Errorf("the root directory of container %s came with %d descriptors", s.id, len(m.Files))
	}
	return m.Files[0], nil
}

// Close lets go of the shim: the container runs on. Streams that are attached stay.
func (s *Shim) Close() error {
	var err error
	s.closing.Do(func() {
		s.cancel()
		if err = s.conn.Close(); isClosed(err) {
			err = nil
		}
	})
	return err
}

// dismiss ends the conversation with a shim whose container has ended, unless it is of use for another one.
func (s *Shim) dismiss(ended bool) {
	s.closing.Do(func() {
		if !ended || s.process == nil || !s.launcher.reuse(s.process) {
			_ = s.conn.Close()
		}
	})
}

// call asks for something that is answered by done or failed.
func (s *Shim) call(ctx context.Context, kind protocol.Kind, v any) error {
	conn, m, err := s.ask(ctx, kind, v)
	if err != nil {
		return err
	}
	defer conn.Close()
	if m.Kind == protocol.Failed {
		return s.refusal(m, nil)
	}
	return nil
}

// ask dials the shim, says one thing, and returns the answer and the connection, which is the caller's.
func (s *Shim) ask(ctx context.Context, kind protocol.Kind, v any) (*protocol.Conn, protocol.Message, error) {
	conn, err := dial(s.dir)
	if err != nil {
		return nil, protocol.Message{}, s.absent(err)
	}
	m, err := ask(ctx, conn, kind, v)
	if err != nil {
		_ = conn.Close()
		return nil, protocol.Message{}, s.absent(err)
	}
	return conn, m, nil
}

func dial(dir string) (*protocol.Conn, error) {
	f, err := protocol.Dial(dir)
	if err != nil {
		return nil, err
	}
	conn, err := protocol.NewConn(f, protocol.Engine, protocol.Open)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return conn, nil
}

// ask says one thing and waits for the answer, or until ctx ends.
func ask(ctx context.Context, conn *protocol.Conn, kind protocol.Kind, v any) (protocol.Message, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.File().SetDeadline(past) })
	defer stop()
	err := conn.Send(kind, v)
	var m protocol.Message
	if err == nil {
		m, err = conn.Recv()
	}
	if ctx.Err() != nil {
		m.Close()
		return protocol.Message{}, context.Cause(ctx)
	}
	if err == nil && !stop() {
		m.Close()
		return protocol.Message{}, context.Cause(ctx)
	}
	return m, err
}

// absent is err, or what it means: a shim that does not answer has ended.
func (s *Shim) absent(err error) error {
	if isAbsent(err) {
		return fmt.Errorf("container %s is not running: %w", s.id, errdefs.ErrNotFound)
	}
	return fmt.Errorf("container %s: %w", s.id, err)
}

// isAbsent tells whether an error says that there is no shim (any more): no socket, nobody who listens at it, nobody who
// goes on answering, no such process.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) || isHangup(err) || errors.Is(err, unix.ESRCH)
}

// refusal is a failure that the shim answered. args is the command that was to be run, if one was.
func (s *Shim) refusal(m protocol.Message, args []string) error {
	var f protocol.Failure
	if err := m.Decode(&f); err != nil {
		return err
	}
	switch {
	case f.Gone:
		return fmt.Errorf("container %s is not running: %w", s.id, errdefs.ErrNotFound)
	case f.NoTerminal:
		return fmt.Errorf("container %s: %w", s.id, errNoTerminal)
	}
	return startError(f, args)
}
