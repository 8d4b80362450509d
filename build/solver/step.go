package solver

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sync/errgroup"

	"github.com/berth-engine/berth/build/cache"
)

// kind is an operation that runs: exec or file.
type kind interface {
	// depends says for each input how the key depends on it.
	depends(v *vertex) []dependency
	// allowed refuses what the job may not do.
	allowed(j *job) error
	// run executes the step and gives its results by output.
	run(ctx context.Context, r *run) (map[int]*result, error)
}

// run is one execution of a step.
type run struct {
	j       *job
	v       *vertex
	in      []*work
	created time.Time
	emit    func(Event)
}

// input gives the result of an input; an empty one for -1.
func (r *run) input(ctx context.Context, i int64) (*result, error) {
	if i < 0 {
		return &result{}, nil
	}
	return r.in[i].give(ctx, r.v.inputs[i].index)
}

// step finds a step in the cache, or executes it.
func (j *job) step(ctx context.Context, v *vertex, k kind) (*work, error) {
	if err := k.allowed(j); err != nil {
		return nil, err
	}
	in, err := j.inputs(ctx, v)
	if err != nil {
		return nil, err
	}
	st := &step{j: j, v: v, k: k, in: in, deps: k.depends(v)}
	st.w = &work{j: j, v: v, give: st.give}
	if st.op, err = operation(v.op); err != nil {
		return nil, err
	}
	j.mu.Lock()
	j.steps++
	j.mu.Unlock()
	if !v.meta.GetIgnoreCache() {
		hit, err := st.lookUp(ctx)
		if err != nil {
			return nil, err
		}
		if hit {
			st.hit.Store(true)
			st.count(1)
			j.tell(Event{Kind: Cached, Vertex: v.digest, Name: v.name})
			return st.w, nil
		}
	}
	if _, err := st.execute(ctx); err != nil {
		return nil, err
	}
	return st.w, nil
}

type step struct {
	j    *job
	v    *vertex
	k    kind
	in   []*work
	deps []dependency
	op   []byte
	w    *work
	hit  atomic.Bool // it counts as found in the cache
}

// count adds n to how many of the job's steps the cache had.
func (st *step) count(n int) {
	st.j.mu.Lock()
	defer st.j.mu.Unlock()
	st.j.hits += n
}

// lookUp looks for a record, first by the records of the inputs, then by contents.
func (st *step) lookUp(ctx context.Context) (bool, error) {
	byDefinition, ok, err := st.j.definitionKey(ctx, st.v, st.op, st.in, st.deps)
	if err != nil {
		return false, err
	}
	c := st.j.s.opts.Cache
	if ok {
		if rec, hit := c.Find(byDefinition); hit {
			st.w.setID(rec.ID)
			return true, nil
		}
	}
	if !st.anyContent() {
		return false, nil
	}
	byContent, err := st.j.contentKey(ctx, st.v, st.op, st.in, st.deps)
	if err != nil {
		return false, err
	}
	rec, hit := c.Find(byContent)
	if !hit {
		return false, nil
	}
	st.w.setID(rec.ID)
	if ok {
		c.AddKey(rec.ID, byDefinition)
	}
	return true, nil
}

func (st *step) anyContent() bool {
	for _, d := range st.deps {
		if d.content {
			return true
		}
	}
	return false
}

// keys are the keys by which the step's record is to be found, the most general first.
func (st *step) keys(ctx context.Context) ([]cache.Key, error) {
	byContent, err := st.j.contentKey(ctx, st.v, st.op, st.in, st.deps)
	if err != nil {
		return nil, err
	}
	byDefinition, ok, err := st.j.definitionKey(ctx, st.v, st.op, st.in, st.deps)
	if err != nil || !ok || byDefinition == byContent {
		return []cache.Key{byContent}, err
	}
	return []cache.Key{byContent, byDefinition}, nil
}

// give gives the result of an output. Where the cache knows the step but its layers are gone, or
// damaged for good, it is executed after all.
func (st *step) give(ctx context.Context, index int) (*result, error) {
	id, err := st.w.ID(ctx)
	if err != nil {
		return nil, err
	}
	if r, ok := st.j.s.known(ctx, id, index); ok {
		return r, nil
	}
	if err := st.bringInputs(ctx); err != nil { // perhaps only a base image's layers were missing
		return nil, err
	}
	if r, ok := st.j.s.known(ctx, id, index); ok {
		return r, nil
	}
	if st.hit.CompareAndSwap(true, false) { // the record alone was no help
		st.count(-1)
	}
	e, err := st.execute(ctx)
	if err != nil {
		return nil, err
	}
	r, ok := e.outputs[index]
	if !ok {
		return nil, fmt.Errorf("%s has no output %d: %w", st.v.name, index, errdefs.ErrInvalidArgument)
	}
	return r, nil
}

// bringInputs makes the results of all inputs that are needed as layers.
func (st *step) bringInputs(ctx context.Context) error {
	var g errgroup.Group
	for i, w := range st.in {
		if w.files != nil {
			continue
		}
		g.Go(func() error {
			_, err := w.give(ctx, st.v.inputs[i].index)
			return err
		})
	}
	return g.Wait()
}

// execute runs the step, or waits for another build that runs it, and notes what it gave.
func (st *step) execute(ctx context.Context) (*execution, error) {
	if err := st.bringInputs(ctx); err != nil {
		return nil, err
	}
	keys, err := st.keys(ctx)
	if err != nil {
		return nil, err
	}
	flightKey := hex.EncodeToString(keys[0][:])
	old := cache.ID{}
	fresh := st.v.meta.GetIgnoreCache()
	if fresh { // nothing that ran before counts, nor what another build runs at the moment
		flightKey += fmt.Sprintf(" %p", st.j)
	} else if id, err := st.w.ID(ctx); err == nil {
		old = id
	}
	hear := func(e Event) {
		if e.Kind == Log || e.Kind == Status || e.Kind == Started {
			e.Vertex = st.v.digest // the build that runs it may call it by another name
			if e.Kind == Started {
				e.Name = st.v.name
			}
			st.j.tell(e)
		}
	}
	ran := false
	e, err := st.j.s.once(ctx, flightKey, st.j.Source.Gone(), hear, func(ctx context.Context, emit func(Event)) (*execution, error) {
		if !fresh { // another build may have been done with it since we looked
			if rec, ok := st.j.s.opts.Cache.Find(keys[0]); ok && rec.ID != old {
				if e, ok := st.j.s.executed(ctx, rec); ok {
					return e, nil
				}
			}
		}
		ran = true
		return st.runNow(ctx, keys, emit)
	})
	if err != nil {
		return nil, err
	}
	st.w.setID(e.id)
	kind := Done
	if !ran {
		kind = Cached
	}
	st.j.tell(Event{Kind: kind, Vertex: st.v.digest, Name: st.v.name})
	return e, nil
}

// executed gives what a record's step gave, if all its outputs are here.
func (s *Solver) executed(ctx context.Context, rec *cache.Record) (*execution, bool) {
	s.mu.Lock()
	e, ok := s.live[rec.ID]
	s.mu.Unlock()
	if ok {
		return e, true
	}
	e = &execution{id: rec.ID, outputs: map[int]*result{}}
	for index := range rec.Outputs {
		r, ok := s.known(ctx, rec.ID, index)
		if !ok {
			return nil, false
		}
		e.outputs[index] = r
	}
	return e, len(e.outputs) > 0
}

// runNow runs the step and makes its record.
func (st *step) runNow(ctx context.Context, keys []cache.Key, emit func(Event)) (*execution, error) {
	created := time.Now().UTC()
	emit(Event{Kind: Started, Vertex: st.v.digest, Name: st.v.name, Time: created})
	r := &run{j: st.j, v: st.v, in: st.in, created: created, emit: func(e Event) {
		e.Vertex = st.v.digest
		if e.Time.IsZero() {
			e.Time = time.Now()
		}
		emit(e)
	}}
	outputs, err := st.k.run(ctx, r)
	if err != nil {
		return nil, err
	}
	e := &execution{id: cache.NewID(), outputs: outputs}
	st.j.s.opts.Cache.Put(&cache.Record{ID: e.id, Created: created, Description: st.v.name, Keys: keys})
	st.j.s.remember(e)
	return e, nil
}

// StepError is a step that failed: where it is in the Dockerfile, and why.
type StepError struct {
	File string // "" if unknown
	Line int
	Name string // of the step
	Err  error
}

// Error is "File:Line: why", or "name: why".
func (e *StepError) Error() string {
	if e.File != "" && e.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Name, e.Err)
}

// Unwrap is why.
func (e *StepError) Unwrap() error { return e.Err }

// failed words an error of a vertex, once, and tells of it.
func (j *job) failed(v *vertex, err error) error {
	var known *StepError
	if err == nil || errors.As(err, &known) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		j.tell(Event{Kind: Cancelled, Vertex: v.digest, Name: v.name})
		return err
	}
	out := &StepError{File: v.place.file, Line: v.place.line, Name: v.name, Err: j.missing(v, err)}
	j.tell(Event{Kind: Failed, Vertex: v.digest, Name: v.name, Text: out.Error(), File: out.File, Line: out.Line})
	return out
}

// missing words the commonest error of a COPY: that its source is not there.
func (j *job) missing(v *vertex, err error) error {
	var gone *missingSource
	if !errors.As(err, &gone) {
		return err
	}
	for _, in := range v.inputs {
		src := in.op.GetSource()
		name, ok := strings.CutPrefix(src.GetIdentifier(), "local://")
		if !ok {
			continue
		}
		where := "the build context"
		if name != "context" {
			where = fmt.Sprintf("the context %q", name)
		}
		hint := ""
		if src.Attrs[pb.AttrExcludePatterns] != "" {
			hint = " (or .dockerignore excludes it)"
		}
		return &missingError{fmt.Sprintf("%q is not in %s%s", gone.path, where, hint)}
	}
	return &missingError{fmt.Sprintf("%q is not in the stage or image that it is taken from", gone.path)}
}

// missingError is a sentence of kind not found.
type missingError struct{ text string }

func (e *missingError) Error() string { return e.text }
func (e *missingError) Unwrap() error { return errdefs.ErrNotFound }
