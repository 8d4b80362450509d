package solver

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/cache"
	"github.com/berth-engine/berth/build/tree"
	"github.com/berth-engine/berth/internal/deeptree"
	"github.com/berth-engine/berth/layer"
)

// Options say what a Solver stands on.
type Options struct {
	Root     string // a directory of its own; made if missing, emptied of steps that were not finished
	Layers   *layer.Store
	Images   Images
	Executor Executor
	Cache    *cache.Cache
	Contents *tree.Store  // for files that are fetched
	HTTP     *http.Client // for ADD URL
	Log      *slog.Logger

	// Hold keeps a layer from deletion until release, and returns when what is being deleted at the moment is gone.
	Hold func(id digest.Digest) (release func())
	// Drop is given layers that no record names: they go, unless somebody else needs them.
	Drop func(ids []digest.Digest)
}

// Solver executes graphs. Several may be executed at a time.
type Solver struct {
	opts       Options
	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	background sync.WaitGroup
	converting chan struct{} // one for each conversion that runs
	count      atomic.Int64  // of directories made
	mounts     cacheMounts

	attachFirst bool // for tests: clone mounts as before Linux 6.15

	mu      sync.Mutex
	flights map[string]*flight      // steps that run, by key; guarded by mu
	live    map[cache.ID]*execution // results that are not all layers yet; guarded by mu
	jobs    map[*job]time.Time      // those that are being executed, since when; guarded by mu
	running map[any]time.Time       // flights and conversions (register); guarded by mu
	held    []hold                  // guarded by mu
}

const (
	uppersDir = "steps"
	mountsDir = "mounts" // cache mounts

	discardedPrefix = "discarded-" // begins the names of what is being deleted
)

// New returns a Solver. The caller closes it. ctx is the Solver's life.
func New(ctx context.Context, opts Options) (*Solver, error) {
	steps := filepath.Join(opts.Root, uppersDir)
	if err := detachLeftOver(steps); err != nil { // of a killed engine
		return nil, err
	}
	switch old, err := discardFull(opts.Root, steps); {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.EROFS): // on a read-only disk nothing is built
	case err != nil:
		return nil, err
	case old == steps: // names are used again: nothing may be left
		if err := deeptree.Remove(old); err != nil {
			return nil, err
		}
	}
	discarded, err := fs.Glob(os.DirFS(opts.Root), discardedPrefix+"*")
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{steps, filepath.Join(opts.Root, mountsDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Solver{
		opts: opts, ctx: ctx, cancel: cancel, converting: make(chan struct{}, max(2, runtime.GOMAXPROCS(0))),
		mounts:  cacheMounts{dir: filepath.Join(opts.Root, mountsDir), locks: map[string]*mountLock{}},
		flights: map[string]*flight{}, live: map[cache.ID]*execution{}, jobs: map[*job]time.Time{},
		running: map[any]time.Time{},
	}
	s.background.Go(func() { s.remove(discarded) })
	return s, nil
}

// discardFull is discard of a directory in which something is. An empty one stays as it is: a full disk may have no
// room for another.
func discardFull(root, dir string) (old string, err error) {
	if names, err := os.ReadDir(dir); err == nil && len(names) == 0 {
		return "", nil
	}
	return discard(root, dir)
}

// discard gives a directory a name in root under which nobody looks for it, and the next New deletes it
// if nobody else has. A full disk may have no room for a name: then the directory keeps its own.
func discard(root, dir string) (old string, err error) {
	old = filepath.Join(root, discardedPrefix+rand.Text())
	err = os.Rename(dir, old)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return dir, nil
	}
	return old, err
}

// remove deletes what was discarded, until the solver's end.
func (s *Solver) remove(names []string) {
	for _, name := range names {
		if err := deeptree.RemoveContext(s.ctx, filepath.Join(s.opts.Root, name)); err != nil && s.ctx.Err() == nil {
			s.opts.Log.Warn("what an earlier engine's builds left could not be deleted, the next start tries again", "error", err)
		}
	}
}

// Close cancels what runs and waits for it.
func (s *Solver) Close() error {
	s.cancel()
	s.background.Wait()
	return nil
}

// known gives the result of a record's output, if all its layers are here and whole.
func (s *Solver) known(ctx context.Context, id cache.ID, index int) (*result, bool) {
	s.mu.Lock()
	e, ok := s.live[id]
	s.mu.Unlock()
	if ok {
		r, ok := e.outputs[index]
		return r, ok && !r.failed()
	}
	rec, ok := s.opts.Cache.Get(id)
	if !ok {
		return nil, false
	}
	layers, ok := rec.Outputs[index]
	if !ok {
		return nil, false
	}
	for _, l := range layers {
		if err := s.opts.Layers.Mend(ctx, l.DiffID); err != nil {
			return nil, false
		}
	}
	return fromLayers(layers), true
}

// failed says whether a part could not be made a layer.
func (r *result) failed() bool {
	for _, p := range r.parts {
		select {
		case <-p.ready:
			if p.err != nil {
				return true
			}
		default:
		}
	}
	return false
}

// Job is one graph to execute.
type Job struct {
	Source      Source
	Platform    ocispec.Platform
	Credentials Credentials
	Pull        bool
	AllowHost   bool
	AllowAll    bool
	Progress    func(Event) // must not block: locks are held that other jobs need; called concurrently; may be nil
	Now         time.Time   // of the build; for files that a Dockerfile has in it
}
