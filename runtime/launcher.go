package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/cleanup"
	"github.com/berth-engine/berth/internal/hexid"
	"github.com/berth-engine/berth/runtime/cgroup"
	"github.com/berth-engine/berth/runtime/compile"
	"github.com/berth-engine/berth/runtime/protocol"
	"github.com/berth-engine/berth/runtime/seccomp"
)

// Launcher starts shims and finds them again. Safe for use by several goroutines.
type Launcher struct {
	opts  Options
	ctx   context.Context // for what is done in the background; it never ends
	nest  *nest           // nil: shims need none
	slots slots

	patience time.Duration // how long what does not answer, or go, is waited for
	again    time.Duration // after how long a slot that could not be made is tried again
	scarce   func() bool   // tells whether the machine is short of memory

	cgroups func() (*cgroup.System, error) // looked for once: the machine's hierarchies stay where they are
}

// New returns a Launcher. It keeps warm slots in the background, with the values of ctx but not its end: Close ends them.
func New(ctx context.Context, opts Options) (*Launcher, error) {
	if opts.CgroupParent == "" {
		opts.CgroupParent = "/berth"
	}
	if _, err := os.Stat(opts.Program); err != nil {
		return nil, fmt.Errorf("the program that keeps containers: %w", err)
	}
	l := &Launcher{opts: opts, ctx: context.WithoutCancel(ctx), patience: patience, again: again, scarce: memoryIsScarce, cgroups: sync.OnceValues(cgroup.Find)}
	var err error
	if l.nest, err = newNest(opts.CgroupParent); err != nil {
		return nil, fmt.Errorf("cgroup of the shims: %w", err)
	}
	if opts.Slots > 0 {
		if err := l.openSlots(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Close gives up the warm slots and waits until they are gone. Running containers are not touched.
func (l *Launcher) Close() error {
	if l.opts.Slots > 0 {
		l.closeSlots()
	}
	l.nest.close()
	removeEmpty(l.opts.CgroupParent)
	return nil
}

// NewID returns a new id for a container: that of a warm slot if one is free (a container that is
// started soon under this id, with usual namespaces, takes the slot), else a random one.
func (l *Launcher) NewID() string {
	if id := l.promise(); id != "" {
		return id
	}
	return hexid.New()
}

// Start starts the container. When it returns without error, the process was executed.
//
// A process that could not be started is a *StartError, one whose shim was lost meanwhile ErrLost; then nothing is left
// of the container but Dir.
// Nothing is left either when ctx ends.
func (l *Launcher) Start(ctx context.Context, cfg Config) (_ *Shim, err error) {
	filter, err := cfg.filter()
	if err != nil {
		return nil, err
	}
	r, files := cfg.request(filter)
	var attached *protocol.Conn
	if cfg.Attach != nil {
		ours, theirs, err := protocol.Pair()
		if err != nil {
			return nil, err
		}
		defer theirs.Close()
		if attached, err = protocol.NewConn(ours, protocol.Engine, protocol.Streaming); err != nil {
			return nil, errors.Join(err, ours.Close())
		}
		files = append(files, theirs)
	}
	s, missed, err := l.startWarm(ctx, &cfg, r, files)
	if s == nil && err == nil {
		s, err = l.startCold(ctx, &cfg, r, files)
	}
	if missed != nil && isRootTaken(err) {
		err = missed // the second try found the root where the first had put it, and says only that
	}
	if err != nil {
		if attached != nil {
			_ = attached.Close()
		}
		l.slots.nudge() // it may have used up a slot
		return nil, err
	}
	l.learn(&cfg)
	if attached != nil {
		s.attached = newStream(attached, false)
	}
	s.watch()
	return s, nil
}

// startWarm starts the container in the slot that has its id. Neither a shim nor an error: there is no such slot, or
// it did not work out, or the shim was lost; a new process may do better, or have the better error. missed is what a
// slot that fits failed at, nil where there was none.
func (l *Launcher) startWarm(ctx context.Context, cfg *Config, r protocol.StartRequest, files []*os.File) (_ *Shim, missed, err error) {
	p, err := l.claim(cfg)
	if p == nil || err != nil {
		return nil, nil, err
	}
	s, err := l.startOn(ctx, p, cfg, r, files)
	var failed *StartError
	if err == nil || ctx.Err() != nil || errors.As(err, &failed) && failed.Exec {
		return s, nil, err
	}
	return nil, err, nil
}

// isRootTaken tells whether a start failed because one before it had taken the root.
func isRootTaken(err error) bool {
	var failed *StartError
	return errors.As(err, &failed) && failed.Step == compile.TakeRoot && failed.Errno == unix.EINVAL
}

func (l *Launcher) startCold(ctx context.Context, cfg *Config, r protocol.StartRequest, files []*os.File) (*Shim, error) {
	p, err := l.launch(cfg.ID, filepath.Join(cfg.Dir, crashLog))
	if err != nil {
		return nil, err
	}
	return l.startOn(ctx, p, cfg, r, files)
}

// startOn has the shim start the container. Where it fails nothing is left of either.
func (l *Launcher) startOn(ctx context.Context, p *shimProcess, cfg *Config, r protocol.StartRequest, files []*os.File) (_ *Shim, err error) {
	undo := cleanup.New()
	defer undo.Run(&err)
	undo.Add(func() error { return l.abandon(ctx, p, cfg) })
	stop := p.interrupt(ctx)
	defer stop()
	if err := p.conn.Send(protocol.Start, r, files...); err != nil {
		return nil, p.because(ctx, err)
	}
	m, err := p.conn.Recv()
	if err != nil {
		return nil, p.because(ctx, err)
	}
	if m.Kind == protocol.Failed {
		var f protocol.Failure
		if err := m.Decode(&f); err != nil {
			return nil, err
		}
		return nil, startError(f, cfg.Spec.Process.Args)
	}
	var started protocol.StartedReply
	if err := m.Decode(&started); err != nil {
		return nil, err
	}
	if !stop() { // ctx ended in this moment
		return nil, context.Cause(ctx)
	}
	undo.Cancel()
	s := newShim(ctx, l, cfg.ID, cfg.Dir, p.conn)
	s.process = p
	s.pid, s.started, s.cgroup = started.Pid, started.At, l.cgroupOf(cfg.Spec, cfg.ID)
	return s, nil
}

// filter returns the seccomp program for the container; nil: none.
func (cfg *Config) filter() (*seccomp.Program, error) {
	if cfg.Filter != nil || cfg.Spec.Linux == nil || cfg.Spec.Linux.Seccomp == nil {
		return cfg.Filter, nil
	}
	p, err := seccomp.Compile(cfg.Spec.Linux.Seccomp, goruntime.GOARCH)
	if err != nil {
		return nil, err
	}
	if p.Notify {
		return nil, errors.New("seccomp: SCMP_ACT_NOTIFY is not supported yet: use a profile without it")
	}
	return &p, nil
}

// request is the container as its shim hears of it, and the descriptors that go along, but for the stream's.
func (cfg *Config) request(filter *seccomp.Program) (protocol.StartRequest, []*os.File) {
	r := protocol.StartRequest{
		ID: cfg.ID, Dir: cfg.Dir, Spec: withoutSeccomp(cfg.Spec), Init: cfg.Init,
		Stdin: protocol.StdinMode(cfg.Stdin), Log: protocol.Log(cfg.Log),
	}
	if filter != nil {
		r.Filter, r.FilterBits = filter.BPF, filter.Flags
	}
	var files []*os.File
	if cfg.Root != nil {
		r.Files.Root, files = true, append(files, cfg.Root)
	}
	for _, m := range cfg.Mounts {
		r.Files.Mounts, files = append(r.Files.Mounts, m.Destination), append(files, m.Tree)
	}
	if cfg.NetNS != nil {
		r.Files.NetNS, files = true, append(files, cfg.NetNS)
	}
	for _, l := range cfg.Listeners {
		r.Files.Listeners = append(r.Files.Listeners, protocol.Listener{Proto: l.Proto, To: l.To})
		files = append(files, l.Socket)
	}
	if cfg.Attach != nil {
		a := cfg.Attach.request()
		r.Files.Stream, r.Attach = true, &a
	}
	return r, files
}

// withoutSeccomp leaves out what has been compiled: it is the largest part of a specification.
func withoutSeccomp(spec *specs.Spec) *specs.Spec {
	if spec.Linux == nil || spec.Linux.Seccomp == nil {
		return spec
	}
	c, linux := *spec, *spec.Linux
	linux.Seccomp, c.Linux = nil, &linux
	return &c
}
