package runtime

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

var errNotBuilt = errors.New("not built yet")

// Launcher starts shims and finds them again. Safe for use by several goroutines.
type Launcher struct {
	opts Options
	mu   sync.Mutex
}

// New returns a Launcher. It starts filling the warm slots in the background.
func New(opts Options) (*Launcher, error) { return &Launcher{opts: opts}, nil }

// Close gives up the warm slots and waits until they are gone. Running containers are not touched.
func (l *Launcher) Close() error { return nil }

// NewID returns a new id for a container: that of a warm slot if one is free (a container that is
// started soon under this id, with usual namespaces, takes the slot), else a random one.
func (l *Launcher) NewID() string { return "" }

// Start starts the container. When it returns without error, the process was executed.
//
// A process that could not be started is a *StartError; then nothing is left of the container but Dir.
// Nothing is left either when ctx ends.
func (l *Launcher) Start(ctx context.Context, cfg Config) (*Shim, error) { return nil, errNotBuilt }

// Reconnect finds the container's shim after a restart of the engine.
//
// Where there is none any more, the error is an *EndedError with what the exit record says (its kind is
// errdefs.ErrNotFound). A container whose shim was lost is killed by its cgroup first; its Exit has Lost set.
// Where dir has no record (the container was never started), Exit is nil in the error.
func (l *Launcher) Reconnect(ctx context.Context, id, dir string) (*Shim, error) {
	return nil, errNotBuilt
}

// Destroy kills what is left of a container (processes, cgroup, shim), whatever its state, and waits until
// it is gone. It is idempotent; dir itself stays. Spec's cgroup is found in dir's record, or by id.
func (l *Launcher) Destroy(ctx context.Context, id, dir string) error { return errNotBuilt }

// Shim is the engine's hold on the process that owns one container.
type Shim struct{}

// ID returns the container's id.
func (s *Shim) ID() string { return "" }

// Pid returns the process id of the container's first process in the engine's pid namespace. It is for
// showing, never for sending signals.
func (s *Shim) Pid() int { return 0 }

// Started returns when the process was executed.
func (s *Shim) Started() time.Time { return time.Time{} }

// Cgroup returns the container's cgroup as runtime/cgroup names it.
func (s *Shim) Cgroup() string { return "" }

// Attached returns the stream that Config.Attach asked for, nil without. It is the caller's to close.
func (s *Shim) Attached() *Stream { return nil }

// Attach attaches a stream to the running container. What was written before is in the log only.
func (s *Shim) Attach(ctx context.Context, opts AttachOptions) (*Stream, error) {
	return nil, errNotBuilt
}

// Exec runs another process in the container. A process that could not be started is a *StartError.
func (s *Shim) Exec(ctx context.Context, cfg ExecConfig) (*ExecProcess, error) {
	return nil, errNotBuilt
}

// Signal sends sig to the container's first process, or with all to every process in its cgroup.
// The error is errdefs.ErrNotFound when it has ended.
func (s *Shim) Signal(ctx context.Context, sig int, all bool) error { return errNotBuilt }

// Resize sets the terminal's size. Without a terminal the error is errdefs.ErrFailedPrecondition.
func (s *Shim) Resize(ctx context.Context, size Size) error { return errNotBuilt }

// Wait waits until the container has ended. It may be called any number of times, at any time.
func (s *Shim) Wait(ctx context.Context) (Exit, error) { return Exit{}, errNotBuilt }

// Done is closed when the container has ended; Wait then returns at once.
func (s *Shim) Done() <-chan struct{} { return nil }

// State asks the shim.
func (s *Shim) State(ctx context.Context) (State, error) { return State{}, errNotBuilt }

// Rootfs returns an O_PATH descriptor of the container's root directory, with everything that is mounted
// below it in the container. It is the caller's to close, and must be used with RESOLVE_IN_ROOT only.
func (s *Shim) Rootfs(ctx context.Context) (*os.File, error) { return nil, errNotBuilt }

// Pause freezes every process of the container, Resume thaws them.
func (s *Shim) Pause(ctx context.Context) error  { return errNotBuilt }
func (s *Shim) Resume(ctx context.Context) error { return errNotBuilt }

// Update changes the container's limits.
func (s *Shim) Update(ctx context.Context, r *specs.LinuxResources) error { return errNotBuilt }

// Close lets go of the shim: the container runs on. Streams that are attached stay.
func (s *Shim) Close() error { return nil }
