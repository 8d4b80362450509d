package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/build/cache"
	"github.com/berth-engine/berth/build/frontend"
	"github.com/berth-engine/berth/build/session/server"
	"github.com/berth-engine/berth/build/solver"
	"github.com/berth-engine/berth/layer"
)

// Options say what a Builder stands on.
type Options struct {
	Root     string // directory of its own, below the data root; made if missing
	Layers   *layer.Store
	Images   Images
	Executor Executor
	Platform ocispec.Platform // of the engine
	HTTP     *http.Client     // for ADD URL; nil means one that does as the environment's proxies say
	Log      *slog.Logger     // nil means nothing is logged

	// Hold keeps a layer from deletion until release, and returns when what is being deleted at the moment is gone. nil
	// means that nobody deletes any.
	Hold func(id digest.Digest) (release func())
	// Drop is given layers that the Builder has no use for any more: they go, unless somebody else needs them. nil means
	// that they stay.
	Drop func(ids []digest.Digest)
}

// Builder builds images. Several builds may run at a time.
type Builder struct {
	opts     Options
	contexts *server.Store
	cache    *cache.Cache
	solver   *solver.Solver
	patience time.Duration // patience, or what a test has

	// builds is held for reading by what runs, and by Close for writing: it waits for them.
	builds sync.RWMutex
	stop   chan struct{} // closed by Close
	once   sync.Once
}

// What is in Root.
const (
	contextsDir = "contexts"
	solverDir   = "solver"
	journalFile = "cache"
)

// Open returns a Builder. It reads nothing that costs time: the cache is loaded by the first build. ctx
// is the Builder's life: what it does in the background ends with it, or with Close.
func Open(ctx context.Context, opts Options) (*Builder, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Hold == nil {
		opts.Hold = func(digest.Digest) func() { return func() {} }
	}
	if opts.Drop == nil {
		opts.Drop = func([]digest.Digest) {}
	}
	if opts.HTTP == nil {
		opts.HTTP = &http.Client{}
	}
	if err := os.MkdirAll(opts.Root, 0o700); err != nil {
		return nil, fmt.Errorf("open the builder: %w", err)
	}
	contexts, err := server.Open(filepath.Join(opts.Root, contextsDir))
	if err != nil {
		return nil, fmt.Errorf("open the builder: %w", err)
	}
	b := &Builder{opts: opts, contexts: contexts, cache: cache.Open(filepath.Join(opts.Root, journalFile)), patience: patience, stop: make(chan struct{})}
	b.solver, err = solver.New(ctx, solver.Options{
		Root: filepath.Join(opts.Root, solverDir), Layers: opts.Layers, Images: opts.Images, Executor: opts.Executor,
		Cache: b.cache, Contents: contexts.Contents, HTTP: opts.HTTP, Log: opts.Log,
		Hold: opts.Hold, Drop: opts.Drop,
	})
	if err != nil {
		return nil, fmt.Errorf("open the builder: %w", err)
	}
	return b, nil
}

var errClosed = fmt.Errorf("the builder is closed: %w", errdefs.ErrUnavailable)

// Close cancels what is running and waits for it.
func (b *Builder) Close() error {
	b.once.Do(func() { close(b.stop) })
	b.builds.Lock()
	defer b.builds.Unlock()
	return errors.Join(b.solver.Close(), b.cache.Close(), b.contexts.Close())
}

// Contexts is where sessions and archives put their files (build/session/server).
func (b *Builder) Contexts() *server.Store { return b.contexts }

// enter has Close wait for the caller, and the context end with it. It waits for nothing: the caller may have locks that
// what Close waits for needs.
func (b *Builder) enter(ctx context.Context) (context.Context, func(), error) {
	if !b.builds.TryRLock() {
		return nil, nil, errClosed
	}
	select {
	case <-b.stop:
		b.builds.RUnlock()
		return nil, nil, errClosed
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-b.stop:
			cancel()
		case <-done:
		}
	})
	return ctx, func() {
		close(done)
		watch.Wait()
		cancel()
		b.builds.RUnlock()
	}, nil
}

// Build builds an image. Errors are of errdefs' kinds: ErrInvalidArgument for a Dockerfile or request
// that is wrong (a *frontend.Error or *solver.StepError, which know file and line), ErrNotFound for an
// image or file that is missing; of a RUN that failed there is an *ExitError inside. ctx ends the build;
// steps that other builds wait for go on.
func (b *Builder) Build(ctx context.Context, req Request) (Result, error) {
	ctx, leave, err := b.enter(ctx)
	if err != nil {
		return Result{}, err
	}
	defer leave()
	if err := frontend.CheckContexts(req.Contexts); err != nil {
		return Result{}, err
	}
	var out Result
	heard := listen(req.Progress)
	defer heard.close(ctx, b.patience)
	warn := func(w frontend.Warning) {
		heard.tell(Event{Kind: solver.Warning, Time: time.Now(), Text: w.Text, Detail: w.Detail, URL: w.URL, File: w.File, Line: w.Line})
	}
	var warned sync.Mutex
	graph, err := frontend.Dockerfile(ctx, frontend.Options{
		Source: req.Source, Images: b.opts.Images, Credentials: req.Credentials, Capabilities: solver.Capabilities(),
		Worker: b.opts.Platform, Platform: req.Platform, Dockerfile: req.Dockerfile, Target: req.Target, Args: req.Args, Labels: req.Labels,
		Contexts: req.Contexts, NoCache: req.NoCache, NoCacheStage: req.NoCacheStage, Pull: req.Pull, Network: req.Network,
		ExtraHosts: req.ExtraHosts, Hostname: req.Hostname, ShmSize: req.ShmSize, Ulimits: req.Ulimits, CgroupParent: req.CgroupParent,
		Resources: req.Resources,
		Warn: func(w frontend.Warning) {
			warned.Lock()
			out.Warnings = append(out.Warnings, w.Text)
			warned.Unlock()
			warn(w)
		},
	})
	if err != nil {
		return Result{}, err
	}
	if len(req.CacheFrom) > 0 {
		w := frontend.Warning{Text: "cache-from is not used: this engine takes cached steps from its own cache only"}
		out.Warnings = append(out.Warnings, w.Text)
		warn(w)
	}
	got, err := b.solver.Solve(ctx, graph.Definition, solver.Job{
		Source: req.Source, Platform: graph.Platform, Credentials: req.Credentials, Pull: req.Pull,
		AllowHost: req.AllowHost, AllowAll: req.AllowAll, Progress: heard.tell, Now: time.Now(),
	}, req.Hold)
	if err != nil {
		return Result{}, err
	}
	out.Steps, out.Cached = got.Steps, got.Hits
	for _, l := range got.Layers {
		out.DiffIDs = append(out.DiffIDs, l.DiffID)
	}
	out.Config, err = complete(graph.Config, got.Layers)
	return out, err
}

// Layers lists the layers that the cache may still need: they are roots when layers are deleted, beside what is held.
func (b *Builder) Layers(ctx context.Context) ([]digest.Digest, error) {
	_, leave, err := b.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return b.solver.Layers()
}
