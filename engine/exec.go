package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/container/bundle"
	"github.com/berth-engine/berth/runtime"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ExecConfig is a process to run in a running container.
type ExecConfig struct {
	Cmd          []string
	Env          []string
	User         string // "": the container's
	WorkingDir   string // "": the container's
	TTY          bool
	Privileged   bool
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	DetachKeys   string
	Height       uint16 // of the terminal, characters; 0: not known
	Width        uint16
}

// Exec is what is known of such a process.
type Exec struct {
	ID, ContainerID string
	Config          ExecConfig
	Running         bool
	ExitCode        *int // nil until it has ended
	Pid             int
}

type execs struct {
	mu   sync.Mutex
	byID map[string]*execution // guarded by mu
}

type execution struct {
	Exec                         // guarded by execs.mu
	claimed bool                 // guarded by execs.mu: it is started once
	over    time.Time            // guarded by execs.mu: when it ended
	process *runtime.ExecProcess // guarded by execs.mu
}

// CreateExec notes a process for a running container.
func (e *Engine) CreateExec(ctx context.Context, user string, cfg ExecConfig) (id string, err error) {
	c, err := e.find(user)
	if err != nil {
		return "", err
	}
	if _, err := c.running(); err != nil {
		return "", err
	}
	if err := c.execPaused(user); err != nil {
		return "", err
	}
	if len(cfg.Cmd) == 0 {
		return "", fmt.Errorf("No exec command specified: %w", errdefs.ErrInvalidArgument) // Docker's sentence
	}
	id = container.NewID()
	e.execs.mu.Lock()
	defer e.execs.mu.Unlock()
	if e.execs.byID == nil {
		e.execs.byID = map[string]*execution{}
	}
	e.execs.forgetOld()
	e.execs.byID[id] = &execution{Exec: Exec{ID: id, ContainerID: c.ID, Config: cfg}}
	e.event(c, "exec_create: "+strings.Join(cfg.Cmd, " "), map[string]string{"execID": id})
	return id, nil
}

// keptExecs is for how long it can be asked how a process ended.
const keptExecs = 5 * time.Minute

// forgetOld forgets those that ended long ago. x.mu must be held.
func (x *execs) forgetOld() {
	for id, run := range x.byID {
		if !run.over.IsZero() && time.Since(run.over) > keptExecs {
			delete(x.byID, id)
		}
	}
}

func (x *execs) find(id string) (*execution, error) {
	if run := x.byID[id]; run != nil {
		return run, nil
	}
	return nil, fmt.Errorf("No such exec instance: %s: %w", id, errdefs.ErrNotFound) // Docker's sentence
}

// InspectExec returns what is known of it.
func (e *Engine) InspectExec(id string) (Exec, error) {
	e.execs.mu.Lock()
	defer e.execs.mu.Unlock()
	run, err := e.execs.find(id)
	if err != nil {
		return Exec{}, err
	}
	return run.Exec, nil
}

// ExecsOf are the IDs of a container's processes that were added and still run.
func (e *Engine) ExecsOf(containerID string) []string {
	e.execs.mu.Lock()
	defer e.execs.mu.Unlock()
	var ids []string
	for id, run := range e.execs.byID {
		if run.ContainerID == containerID && run.Running {
			ids = append(ids, id)
		}
	}
	return ids
}

// StartExec starts it. The stream carries what the configuration says (nothing with detach); the
// caller reads it to its end, calls done with how it ended, and closes it.
func (e *Engine) StartExec(ctx context.Context, id string, detach bool) (stream *runtime.Stream, done func(runtime.Exit), err error) {
	e.execs.mu.Lock()
	run, err := e.execs.find(id)
	if err == nil && run.claimed {
		err = fmt.Errorf("Error: Exec command %s has already run: %w", id, errdefs.ErrConflict) // Docker's sentence
	}
	if err != nil {
		e.execs.mu.Unlock()
		return nil, nil, err
	}
	run.claimed = true
	cfg := run.Config
	e.execs.mu.Unlock()

	c, err := e.find(run.ContainerID)
	if err != nil {
		return nil, nil, err
	}
	process, err := e.startExec(ctx, c, cfg, detach)
	if err != nil {
		e.execs.ended(id, execCode(err))
		return nil, nil, err
	}
	e.execs.mu.Lock()
	run.Running, run.Pid, run.process = true, process.Pid(), process
	e.execs.mu.Unlock()
	e.event(c, "exec_start: "+strings.Join(cfg.Cmd, " "), map[string]string{"execID": id})
	return process.Stream(), func(exit runtime.Exit) {
		e.execs.ended(id, exit.Status)
		e.event(c, "exec_die", map[string]string{"execID": id, "exitCode": fmt.Sprint(exit.Status)})
	}, nil
}

// execCode is the exit code of a process that never ran, as Docker has it: 127 where a file is not there, 126
// for everything else.
func execCode(err error) int {
	var failed *runtime.StartError
	switch {
	case errors.As(err, &failed) && failed.ExitCode() == 127, errors.Is(err, syscall.ENOENT):
		return 127
	}
	return 126
}

func (x *execs) ended(id string, code int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if run := x.byID[id]; run != nil {
		run.Running, run.ExitCode, run.Pid, run.process, run.over = false, &code, 0, nil, time.Now()
	}
}

func (e *Engine) startExec(ctx context.Context, c *instance, cfg ExecConfig, detach bool) (*runtime.ExecProcess, error) {
	shim, err := c.running()
	if err != nil {
		return nil, err
	}
	if err := c.execPaused(c.ID); err != nil {
		return nil, err
	}
	process, err := e.execProcess(ctx, c, shim, cfg)
	if err != nil {
		return nil, err
	}
	attach := runtime.AttachOptions{Stdin: cfg.AttachStdin && !detach, Stdout: cfg.AttachStdout && !detach, Stderr: cfg.AttachStderr && !detach}
	return shim.Exec(ctx, runtime.ExecConfig{Process: process, Attach: attach})
}

// FollowExec waits for an exec whose stream nobody reads any more, or ever did: it is closed.
func (e *Engine) FollowExec(id string, done func(runtime.Exit)) {
	e.execs.mu.Lock()
	var process *runtime.ExecProcess
	if run := e.execs.byID[id]; run != nil {
		process = run.process
	}
	e.execs.mu.Unlock()
	if process == nil {
		return
	}
	e.background(func(ctx context.Context) {
		exit, err := process.Wait(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			exit.Status = 137
		}
		done(exit)
	})
}

// SizeExec sets the size that the terminal of an exec begins with.
func (e *Engine) SizeExec(id string, size runtime.Size) {
	e.execs.mu.Lock()
	defer e.execs.mu.Unlock()
	if run := e.execs.byID[id]; run != nil {
		run.Config.Height, run.Config.Width = size.Height, size.Width
	}
}

// forget drops a container's.
func (x *execs) forget(containerID string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, run := range x.byID {
		if run.ContainerID == containerID {
			delete(x.byID, id)
		}
	}
}

// ResizeExec sets the size of its terminal.
func (e *Engine) ResizeExec(ctx context.Context, id string, size runtime.Size) error {
	e.execs.mu.Lock()
	run, err := e.execs.find(id)
	var process *runtime.ExecProcess
	if err == nil {
		if process = run.process; process == nil {
			err = fmt.Errorf("exec %s is not running: %w", id, errdefs.ErrConflict)
		}
	}
	e.execs.mu.Unlock()
	if err != nil {
		return err
	}
	return process.Resize(ctx, size)
}

// execProcess is the process as the OCI specification has it, with what the container's own has where
// the configuration says nothing.
func (e *Engine) execProcess(ctx context.Context, c *instance, shim *runtime.Shim, cfg ExecConfig) (*specs.Process, error) {
	own := c.Config()
	root, err := shim.Rootfs(ctx)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	user, groups := cfg.User, []string(nil)
	if user == "" {
		user, groups = own.Process.User, own.Process.Groups
	}
	who, err := lookUp(root, user, groups)
	if err != nil {
		return nil, err
	}
	merged := *own
	merged.Process.Env = bundle.Merge(own.Process.Env, cfg.Env)
	merged.Process.Entrypoint, merged.Process.Cmd = nil, cfg.Cmd
	merged.Process.TTY = cfg.TTY
	merged.Process.ConsoleHeight, merged.Process.ConsoleWidth = cfg.Height, cfg.Width
	if cfg.WorkingDir != "" {
		merged.Process.WorkingDir = cfg.WorkingDir
	}
	if cfg.Privileged {
		merged.Isolation.Privileged = true
	}
	return bundle.Process(&merged, e.processInputs(c, who))
}

// execPaused refuses a paused container: with cgroups of version 1 a process that joins one does not even get to its
// program.
func (c *instance) execPaused(user string) error {
	if c.State().Status != container.Paused {
		return nil
	}
	return fmt.Errorf("Container %s is paused, unpause the container before exec: %w", user, errdefs.ErrConflict) // Docker's sentence
}
