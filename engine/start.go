package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/container/bundle"
	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/cleanup"
	"github.com/berth-engine/berth/layer"
	"github.com/berth-engine/berth/network"
	"github.com/berth-engine/berth/runtime"
	"github.com/containerd/errdefs"
)

// Start starts a container that is not running. One that runs already is errdefs.ErrNotModified. A
// process that could not be started is a *runtime.StartError.
func (e *Engine) Start(ctx context.Context, user string) error {
	c, err := e.find(user)
	if err != nil {
		return err
	}
	if _, err := e.start(ctx, c, nil, byUser); err != nil {
		return e.discard(ctx, c, err)
	}
	return nil
}

// Why a container is started.
type cause bool

const (
	byUser   cause = true
	byPolicy cause = false
)

// start claims the container, starts it, and leaves its end to watch. With attach it returns a stream
// that misses nothing of the output; the caller closes it.
func (e *Engine) start(ctx context.Context, c *instance, attach *runtime.AttachOptions, why cause) (*runtime.Stream, error) {
	release, err := c.Claim(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	switch s := c.State(); {
	case s.Status == container.Paused:
		return nil, fmt.Errorf("cannot start a paused container, try unpause instead: %w", errdefs.ErrConflict)
	case s.Status.Active():
		return nil, fmt.Errorf("container %s is already running: %w", c.Name(), errdefs.ErrNotModified)
	case s.Status.Leaving():
		return nil, fmt.Errorf("container %s is marked for removal and cannot be started: %w", c.Name(), errdefs.ErrConflict)
	case why == byPolicy && s.Status != container.Restarting:
		return nil, errdefs.ErrNotModified // stopped by its user meanwhile
	}
	e.starting.Add(1)
	defer e.starting.Add(-1)
	early := attach == nil
	if early {
		attach = c.firstExpected()
	}
	shim, err := e.launch(ctx, c, attach)
	if err != nil {
		c.serve(ctx, nil, nil)
		return nil, e.notStarted(c, err)
	}
	durability := atomicfile.Volatile
	if c.State().StoppedByUser {
		durability = atomicfile.Durable // what was durable must not come back
	}
	unwanted := false
	err = c.Update(durability, func(s *container.State) {
		unwanted = why == byPolicy && s.StoppedByUser
		*s = container.State{
			Status: container.Running, Pid: shim.Pid(), StartedAt: shim.Started().UTC(), FinishedAt: s.FinishedAt,
			RestartCount: s.RestartCount, StoppedByUser: unwanted,
		}
		if why == byUser {
			s.RestartCount = 0
		}
	})
	if err != nil {
		e.log.Error("the record of a container that started could not be written", "container", c.ID, "error", err)
	}
	e.took(c, shim)
	e.event(c, "start", nil)
	if unwanted { // its user stopped it while the policy started it
		if err := shim.Signal(ctx, int(syscall.SIGKILL), true); err != nil && !errdefs.IsNotFound(err) {
			e.log.Error("a container that was stopped while it was started could not be killed", "container", c.ID, "error", err)
		}
	}
	if early {
		c.serve(ctx, shim.Attached(), shim)
		return nil, nil
	}
	return shim.Attached(), nil
}

// starts tells whether a container is being started just now.
func (e *Engine) starts() bool { return e.starting.Load() > 0 }

// notStarted notes why a container could not be started, and makes a sentence of it.
func (e *Engine) notStarted(c *instance, err error) error {
	code := 128
	var start *runtime.StartError
	if errors.As(err, &start) {
		code = start.ExitCode()
	}
	failed := c.Update(atomicfile.Volatile, func(s *container.State) {
		s.Status, s.Error, s.ExitCode = stopped(s.Status), err.Error(), code
	})
	if failed != nil {
		e.log.Error("the record of a container that could not be started could not be written", "container", c.ID, "error", failed)
	}
	return fmt.Errorf("failed to start container %s: %w", c.Name(), err)
}

// discard removes a container that removes itself, after a start that failed; any other stays.
func (e *Engine) discard(ctx context.Context, c *instance, failed error) error {
	if !c.Config().AutoRemove || c.State().Status.Active() {
		return failed
	}
	if err := e.remove(context.WithoutCancel(ctx), c, RemoveOptions{Volumes: true}); err != nil && !errdefs.IsConflict(err) {
		return errors.Join(failed, err)
	}
	return failed
}

// stopped is what a container is after a start that failed.
func stopped(was container.Status) container.Status {
	if was == container.Created {
		return was
	}
	return container.Exited
}

// took puts a running container under the engine's eyes: its end, its health.
func (e *Engine) took(c *instance, shim *runtime.Shim) {
	c.mu.Lock()
	c.shim = shim
	c.mu.Unlock()
	e.watchHealth(c, shim)
	e.background(func(ctx context.Context) { e.watch(ctx, c, shim) })
}

// launch is the start, step by step. What it acquires is given back by Destroy of each room, here
// after a failure, in end.go after an exit, in recover.go after a crash.
func (e *Engine) launch(ctx context.Context, c *instance, attach *runtime.AttachOptions) (_ *runtime.Shim, err error) {
	cfg := c.Config()
	files := descriptors{}
	defer func() { err = errors.Join(err, files.close()) }()
	undo := cleanup.New()
	defer undo.Run(&err)

	if err := os.MkdirAll(e.store.ExecDir(c.ID), 0o710); err != nil { // gone with a reboot
		return nil, err
	}
	root, err := e.mountRootfs(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("mount the root file system: %w", err)
	}
	files.add(root)
	who, err := lookUp(root, cfg.Process.User, cfg.Process.Groups)
	if err != nil {
		return nil, err
	}
	undo.Add(func() error { return e.networks.Detach(context.WithoutCancel(ctx), c.ID) })
	sandbox, err := e.attach(ctx, c)
	if err != nil {
		return nil, err
	}
	files.add(sandbox)
	if err := e.writeFiles(c); err != nil {
		return nil, err
	}
	in, err := e.inputs(c, who)
	if err != nil {
		return nil, err
	}
	if err := e.join(ctx, cfg, &in, &files); err != nil {
		return nil, err
	}
	spec, err := bundle.Spec(cfg, in)
	if err != nil {
		return nil, err
	}
	mounts, err := e.mounts(c)
	for _, m := range mounts {
		files.add(m.Tree)
	}
	if err != nil {
		return nil, err
	}
	spec.Mounts = append(spec.Mounts, binds(mounts)...)
	filter, err := e.filters.filter(cfg, e.machine)
	if err != nil {
		return nil, err
	}
	undo.Add(func() error {
		return e.runtime.Destroy(context.WithoutCancel(ctx), c.ID, e.store.ExecDir(c.ID), e.cgroupPath(c))
	})
	shim, err := e.runtime.Start(ctx, runtime.Config{
		ID: c.ID, Dir: e.store.ExecDir(c.ID), Spec: spec, Root: root, Mounts: mounts, NetNS: sandbox.NS,
		Filter: filter, Stdin: stdin(cfg), Log: e.logOf(c), Listeners: listeners(sandbox), Attach: attach, Init: cfg.Process.Init,
	})
	if err != nil {
		return nil, err
	}
	undo.Cancel()
	return shim, nil
}

func (e *Engine) mountRootfs(ctx context.Context, c *instance) (*os.File, error) {
	st, err := e.layers.Stack(ctx, c.Config().Layers)
	if err != nil {
		return nil, err
	}
	defer st.Release() // the mount goes on working; what layers must stay is garbage.go's business
	upper, err := e.layers.OpenUpper(e.upperDir(c.ID))
	if err != nil {
		return nil, err
	}
	return st.Mount(ctx, upper, layer.MountOptions{Volatile: c.Config().AutoRemove, No64: c.Config().Platform32})
}

func stdin(cfg *container.Config) runtime.Stdin {
	switch {
	case !cfg.Process.OpenStdin:
		return runtime.StdinNone
	case cfg.Process.StdinOnce:
		return runtime.StdinOnce
	}
	return runtime.StdinOpen
}

func (e *Engine) logOf(c *instance) runtime.Log {
	cfg := c.Config().Log
	if cfg.Driver == "none" {
		return runtime.Log{}
	}
	l := runtime.Log{Path: e.logPath(c.ID), MaxSize: cfg.MaxSize, MaxFiles: cfg.MaxFiles}
	if l.MaxSize == 0 {
		l.MaxSize = e.opts.LogMaxSize
	}
	if l.MaxFiles == 0 {
		l.MaxFiles = e.opts.LogMaxFiles
	}
	return l
}

func listeners(s *network.Sandbox) []runtime.Listener {
	var all []runtime.Listener
	for _, l := range s.Listeners {
		all = append(all, runtime.Listener{Socket: l.File, Proto: l.Port.Proto, To: l.Target})
	}
	return all
}

// inputs is what the OCI configuration needs to know of the machine.
func (e *Engine) inputs(c *instance, who identity) (in bundle.Inputs, err error) {
	cfg := c.Config()
	in = e.processInputs(c, who)
	in.CgroupPath, in.CgroupV2, in.HostNetwork = e.cgroupPath(c), e.machine.cgroupV2, cfg.Network.Mode == network.Host
	in.Devices, in.DeviceRules, err = devices(cfg.Isolation)
	return in, err
}

// join names the namespaces of other containers, which files hold open until the start is over.
func (e *Engine) join(ctx context.Context, cfg *container.Config, in *bundle.Inputs, files *descriptors) error {
	for _, join := range []struct {
		mode, kind string
		to         *string
	}{
		{cfg.Isolation.PidMode, "pid", &in.JoinPID}, {cfg.Network.Mode, "net", &in.JoinNetwork}, {cfg.Network.Mode, "uts", &in.JoinUTS},
	} {
		other, joins := container.Joins(join.mode)
		if !joins {
			continue
		}
		ns, err := e.namespaceOf(ctx, other, join.kind)
		if err != nil {
			return fmt.Errorf("cannot join the %s namespace: %w", join.kind, err)
		}
		files.add(ns)
		*join.to = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	}
	return nil
}

// processInputs is the part of inputs that a process in a running container needs.
func (e *Engine) processInputs(c *instance, who identity) bundle.Inputs {
	return bundle.Inputs{
		Hostname: e.hostname(c), UID: who.uid, GID: who.gid, Groups: who.groups, Home: who.home,
		Bounding: e.machine.bounding, AppArmor: e.machine.apparmor,
	}
}

// namespaceOf opens a running container's namespace. By a pid alone it could be another's: its shim says, after
// the namespace was opened, that it is still there.
func (e *Engine) namespaceOf(ctx context.Context, user, kind string) (*os.File, error) {
	other, err := e.find(user)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	shim, err := other.running()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", shim.Pid(), kind))
	if err != nil {
		return nil, err
	}
	state, err := shim.State(ctx)
	if err == nil && state.Exited != nil {
		err = fmt.Errorf("it has ended: %w", errdefs.ErrConflict)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (e *Engine) cgroupPath(c *instance) string {
	parent := c.Config().Resources.CgroupParent
	if parent == "" {
		parent = e.cgroupParent()
	}
	return filepath.Join("/", parent, c.ID)
}

// closer is a descriptor, or what holds several.
type closer interface{ Close() error }

// descriptors are closed together.
type descriptors []closer

func (d *descriptors) add(c closer) { *d = append(*d, c) }

func (d descriptors) close() error {
	var errs []error
	for _, c := range d {
		if err := c.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
