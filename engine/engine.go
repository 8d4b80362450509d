package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/berth-engine/berth/build"
	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/content"
	"github.com/berth-engine/berth/image"
	"github.com/berth-engine/berth/internal/cleanup"
	"github.com/berth-engine/berth/layer"
	"github.com/berth-engine/berth/network"
	"github.com/berth-engine/berth/registry"
	"github.com/berth-engine/berth/runtime"
	"github.com/berth-engine/berth/volume"
	"github.com/containerd/platforms"
)

// Options say where an engine lives and how it names what it makes.
type Options struct {
	DataRoot string // what outlives a reboot
	ExecRoot string // what doesn't; on a tmpfs
	// Runtime is the path of berth-runtime.
	Runtime string
	// CgroupParent is where containers' cgroups are made; "" derives it from ExecRoot.
	CgroupParent string
	// Bridge and Subnet of the default network; zero values: derived, and chosen.
	Bridge string
	Subnet netip.Prefix
	// Form of layers; "" is the best that the kernel has.
	LayerForm layer.Form
	// Slots is how many containers are prepared ahead; 0: two, negative: none.
	Slots int
	// Registry holds what the registry client is told; its Credentials are not used.
	Registry registry.Options
	// LogMaxSize (bytes) and LogMaxFiles bound a container's log that says nothing else; 0: 20 MiB, 5.
	LogMaxSize  int64
	LogMaxFiles int

	Version string
	Log     *slog.Logger
}

// Engine is a container engine. Its methods may be called from several goroutines.
type Engine struct {
	opts     Options
	log      *slog.Logger
	locks    []*os.File
	machine  machine
	content  *content.Store
	layers   *layer.Store
	images   *image.Store
	volumes  *volume.Store
	networks *network.Controller
	registry *registry.Client
	runtime  *runtime.Launcher
	builder  *build.Builder
	store    *container.Store
	leases   leases
	events   Events
	filters  filters
	execs    execs

	recovered bool // Open has come to its end

	// life ends with Close; work in the background runs under it and is waited for.
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup
	// starting is how many containers are being started.
	starting atomic.Int32

	mu         sync.Mutex           // guards the two maps; nothing is waited for while it is held
	containers map[string]*instance // by ID
	names      map[string]string    // ID by name
	damaged    bool                 // some root could not be read: nothing is collected
}

// Open opens every room, finds the containers of the engine before this one, and starts those that
// their policy wants started. The caller closes the engine; its containers run on.
func Open(ctx context.Context, opts Options) (_ *Engine, err error) {
	e := &Engine{opts: opts, log: opts.Log, containers: map[string]*instance{}, names: map[string]string{}}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.life, e.end = context.WithCancel(context.WithoutCancel(ctx))
	undo := cleanup.New()
	defer undo.Run(&err)
	undo.Add(func() error { return e.Close(context.WithoutCancel(ctx)) })

	if err := e.lock(); err != nil {
		return nil, err
	}
	if err := e.enterNamespace(); err != nil {
		return nil, err
	}
	if err := e.shareExecRoot(); err != nil {
		e.log.Warn("layers that are removed may keep their room on the disk while other mount namespaces see them", "error", err)
	}
	if e.machine, err = lookAtMachine(); err != nil {
		return nil, err
	}
	data := func(name string) string { return filepath.Join(opts.DataRoot, name) }
	if e.content, err = content.Open(data("content")); err != nil {
		return nil, err
	}
	if e.layers, err = layer.Open(ctx, layer.Options{
		Root: data("layers"), ExecRoot: filepath.Join(opts.ExecRoot, "layers"), Form: opts.LayerForm, Restore: e.layerTar, Log: e.log,
	}); err != nil {
		return nil, err
	}
	if e.images, err = image.Open(opts.DataRoot); err != nil {
		return nil, err
	}
	if e.volumes, err = volume.Open(ctx, data("volumes"), e.log); err != nil {
		return nil, err
	}
	if e.store, err = container.OpenStore(data("containers"), filepath.Join(opts.ExecRoot, "containers")); err != nil {
		return nil, err
	}
	if e.networks, err = network.Open(ctx, network.Options{
		Root: opts.DataRoot, ExecRoot: opts.ExecRoot, Bridge: opts.Bridge, Subnet: opts.Subnet,
		NamesChanged: e.rewriteHosts, Busy: e.starts, Log: e.log,
	}); err != nil {
		return nil, err
	}
	if e.registry, err = registry.New(opts.Registry); err != nil {
		return nil, err
	}
	slots := opts.Slots
	if slots == 0 {
		slots = 2
	}
	if e.runtime, err = runtime.New(ctx, runtime.Options{
		Program: opts.Runtime, ExecRoot: opts.ExecRoot, CgroupParent: e.cgroupParent(), Slots: max(slots, 0), Busy: e.starts,
	}); err != nil {
		return nil, err
	}
	if e.builder, err = build.Open(ctx, build.Options{
		Root: data("build"), Layers: e.layers, Images: (*buildImages)(e), Executor: (*buildSteps)(e),
		Platform: platforms.Normalize(platforms.DefaultSpec()), Log: e.log, Hold: e.holdLayer, Drop: e.dropLayers,
	}); err != nil {
		return nil, err
	}
	if err := e.recover(ctx); err != nil {
		return nil, err
	}
	e.recovered = true
	undo.Cancel()
	return e, nil
}

// Close ends what the engine does in the background and lets go of every room. Containers run on.
func (e *Engine) Close(ctx context.Context) error {
	e.end()
	e.work.Wait()
	var errs []error
	if e.builder != nil {
		errs = append(errs, e.builder.Close())
	}
	if e.runtime != nil {
		errs = append(errs, e.runtime.Close())
	}
	for _, c := range e.all() {
		c.letGo()
	}
	if e.networks != nil {
		errs = append(errs, e.networks.Close(ctx))
	}
	if e.registry != nil {
		e.registry.Close()
	}
	if e.layers != nil {
		errs = append(errs, e.layers.Close())
	}
	if e.volumes != nil {
		e.volumes.Close()
	}
	if e.content != nil {
		e.content.Close()
	}
	var left bool
	if e.recovered {
		var err error
		left, err = e.leaveNamespace()
		errs = append(errs, err)
	}
	for _, f := range e.locks {
		errs = append(errs, f.Close())
	}
	e.locks = nil
	if left {
		errs = append(errs, e.unshareExecRoot())
	}
	return errors.Join(errs...)
}

// background runs f until it ends; Close waits for it. f must end soon after its context.
func (e *Engine) background(f func(ctx context.Context)) {
	e.work.Go(func() { f(e.life) })
}

// cgroupParent is below the root of each hierarchy, and different for each exec root.
func (e *Engine) cgroupParent() string {
	if e.opts.CgroupParent != "" {
		return e.opts.CgroupParent
	}
	return "/" + nameFor(e.opts.ExecRoot)
}

// defaultExecRoot is the one whose names are short.
const defaultExecRoot = "/run/berth"

// nameFor is the name that an engine's things on the host derive from.
func nameFor(execRoot string) string {
	if execRoot == defaultExecRoot {
		return "berth"
	}
	return fmt.Sprintf("berth-%08x", fnv32(execRoot))
}
