package solver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/berth-engine/berth/build/cache"
	"github.com/berth-engine/berth/build/tree"
)

// job is one graph while it is executed.
type job struct {
	Job
	s    *Solver
	fail context.CancelCauseFunc // ends the job; the first cause is its error

	mu    sync.Mutex
	nodes map[*vertex]*pending // guarded by mu
	steps int                  // vertices that could have run; guarded by mu
	hits  int                  // those of them that did not have to; guarded by mu
}

// pending is a node that is being made, once.
type pending struct {
	done chan struct{}
	n    *work
	err  error
}

// work is a vertex of which it is known what it is: by its record, or by its content.
type work struct {
	j *job
	v *vertex
	// files is the content of a local source, a fetched file or a document of a Dockerfile, which need
	// no layer to be read.
	files *tree.Tree
	// give makes the result of an output.
	give func(ctx context.Context, index int) (*result, error)

	mu sync.Mutex
	id cache.ID // of its record; zero for a local source of which nobody has asked; guarded by mu
	// identify gives the id if it costs something; nil otherwise.
	identify func(ctx context.Context) (cache.ID, error)
}

// Solution is what a graph gave.
type Solution struct {
	Layers      []cache.Layer // bottom first
	Steps, Hits int
}

// Solve executes a definition and waits until its result is layers. hold, if not nil, is told of them
// before they stop being kept from deletion; it returns when what is being deleted is gone.
func (s *Solver) Solve(ctx context.Context, def *pb.Definition, in Job, hold func([]digest.Digest)) (_ Solution, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	j := &job{Job: in, s: s, fail: fail, nodes: map[*vertex]*pending{}}
	s.begin(j)
	defer s.end(j)
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause // of several branches that fail, all but one are merely cancelled
		}
		if e := s.opts.Cache.Commit(); e != nil {
			s.opts.Log.Warn("what a build gave is not remembered", "error", e)
		}
	}()
	if err := s.opts.Cache.Ready(); err != nil {
		return Solution{}, err
	}
	last, err := decode(def)
	if err != nil || last == nil {
		return Solution{}, err
	}
	w, err := j.work(ctx, last.vertex)
	if err != nil {
		return Solution{}, err
	}
	r, err := w.give(ctx, last.index)
	if err != nil {
		return Solution{}, err
	}
	layers, err := r.layers(ctx)
	if err != nil {
		return Solution{}, err
	}
	ids := make([]digest.Digest, len(layers))
	for i, l := range layers {
		ids[i] = l.DiffID
	}
	if hold != nil {
		hold(ids)
	}
	for _, id := range ids { // somebody may have been deleting
		if _, err := s.opts.Layers.Get(id); err != nil {
			return Solution{}, fmt.Errorf("a layer of the result has been deleted meanwhile: build again: %w", err)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return Solution{layers, j.steps, j.hits}, nil
}

// tell passes an event on.
func (j *job) tell(e Event) {
	if j.Progress == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	j.Progress(e)
}

// work finds out what v is: from the cache, or by executing it. Each vertex of a job comes here once.
func (j *job) work(ctx context.Context, v *vertex) (*work, error) {
	j.mu.Lock()
	p, ok := j.nodes[v]
	if !ok {
		p = &pending{done: make(chan struct{})}
		j.nodes[v] = p
	}
	j.mu.Unlock()
	if ok {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.done:
			return p.n, p.err
		}
	}
	if p.n, p.err = j.identify(ctx, v); p.err != nil {
		p.err = j.failed(v, p.err)
		j.fail(p.err)
	}
	close(p.done)
	return p.n, p.err
}

// inputs does work for all inputs of v at once.
func (j *job) inputs(ctx context.Context, v *vertex) ([]*work, error) {
	out := make([]*work, len(v.inputs))
	var g errgroup.Group // an error ends the job, and so the others
	for i, in := range v.inputs {
		g.Go(func() (err error) {
			out[i], err = j.work(ctx, in.vertex)
			return err
		})
	}
	return out, g.Wait()
}

func (j *job) identify(ctx context.Context, v *vertex) (*work, error) {
	var w *work
	var err error
	switch op := v.op.Op.(type) {
	case *pb.Op_Source:
		w, err = j.source(ctx, v, op.Source)
	case *pb.Op_Merge:
		w, err = j.merge(ctx, v, op.Merge)
	case *pb.Op_Diff:
		w, err = j.diff(ctx, v, op.Diff)
	case *pb.Op_Exec:
		w, err = j.step(ctx, v, execStep{op.Exec})
	case *pb.Op_File:
		if w = j.document(v, op.File); w == nil {
			w, err = j.step(ctx, v, fileStep{op.File})
		}
	default:
		err = fmt.Errorf("an operation without meaning: %w", errdefs.ErrInvalidArgument)
	}
	return w, err
}

// ID is the id of the record, made if that costs something.
func (w *work) ID(ctx context.Context) (cache.ID, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.id != (cache.ID{}) || w.identify == nil {
		return w.id, nil
	}
	id, err := w.identify(ctx)
	if err != nil {
		return cache.ID{}, err
	}
	w.id = id
	return id, nil
}

func (w *work) setID(id cache.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.id = id
}

// cheap says whether ID costs nothing.
func (w *work) cheap() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.id != (cache.ID{}) || w.identify == nil
}

// read opens an output for reading: from memory, or mounted. The caller calls done.
func (w *work) read(ctx context.Context, index int) (v view, done func() error, err error) {
	if w.files != nil {
		return treeView{w.files}, func() error { return nil }, nil
	}
	r, err := w.give(ctx, index)
	if err != nil {
		return nil, nil, err
	}
	root, st, err := w.j.s.view(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	return dirView{root}, func() error { return errors.Join(root.Close(), st.release()) }, nil
}

// digest is the digest of what selections pick of an output, remembered with its record.
func (w *work) digest(ctx context.Context, index int, selections []selection) (cache.Key, error) {
	if w.files != nil { // cheap, and of local sources there is no record
		return digestOf(ctx, treeView{w.files}, selections)
	}
	id, err := w.ID(ctx)
	if err != nil {
		return cache.Key{}, err
	}
	all := make([]cache.Key, len(selections))
	for i, sel := range selections {
		all[i] = sel.key(index)
	}
	name := hashKeys(all)
	if rec, ok := w.j.s.opts.Cache.Get(id); ok {
		if dgst, ok := rec.Digests[name]; ok {
			return dgst, nil
		}
	}
	v, done, err := w.read(ctx, index)
	if err != nil {
		return cache.Key{}, err
	}
	dgst, err := digestOf(ctx, v, selections)
	if err = errors.Join(err, done()); err != nil {
		return cache.Key{}, err
	}
	if id, err = w.ID(ctx); err != nil { // reading may have made it anew
		return cache.Key{}, err
	}
	c := w.j.s.opts.Cache
	if _, ok := c.Get(id); !ok { // of an image or a merge, which need no record to be known
		c.Put(&cache.Record{ID: id, Created: time.Now().UTC(), Description: w.v.name})
	}
	c.SetDigest(id, name, dgst)
	return dgst, nil
}
