package solver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/build/cache"
	"github.com/berth-engine/berth/layer"
)

// part is one layer of a result: a layer file, or a directory that is on its way to become one.
type part struct {
	created     time.Time // when its step ran; zero for a base image's
	description string

	// Of a directory: what it was made on, and what in it is only there to be mounted on.
	base  *result
	upper *layer.Upper
	diff  layer.DiffOptions

	ready chan struct{} // closed when diffID or err is set
	id    digest.Digest // once ready
	err   error         // once ready: it could not be made a layer

	mu    sync.Mutex
	users int  // who needs the directory, its conversion among them; guarded by mu
	gone  bool // it is a layer, and the directory is deleted; guarded by mu
}

// layerPart is a part that is a layer already.
func layerPart(id digest.Digest, created time.Time, description string) *part {
	p := &part{id: id, created: created, description: description, ready: make(chan struct{}), gone: true}
	close(p.ready)
	return p
}

func (p *part) isReady() bool {
	select {
	case <-p.ready:
		return p.err == nil
	default:
		return false
	}
}

// wait waits until the part is a layer.
func (p *part) wait(ctx context.Context) (digest.Digest, error) {
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-p.ready:
		return p.id, p.err
	}
}

// hold keeps the directory from being deleted; false if it is gone (or never was).
func (p *part) hold() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return false
	}
	p.users++
	return true
}

// drop gives a hold back. The last one after the directory became a layer deletes it.
func (p *part) drop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users--
	if p.users > 0 || p.gone {
		return nil
	}
	select {
	case <-p.ready:
	default:
		return nil // held by its conversion until then; not reached
	}
	p.gone = true
	return p.upper.Destroy()
}

// result is an immutable tree: parts, bottom first. Results share the parts below.
type result struct {
	parts []*part
}

// onto returns the result with p on top.
func (r *result) onto(p *part) *result {
	return &result{append(slices.Clip(slices.Clone(r.parts)), p)}
}

// layers waits until every part is a layer and lists them.
func (r *result) layers(ctx context.Context) ([]cache.Layer, error) {
	out := make([]cache.Layer, len(r.parts))
	for i, p := range r.parts {
		id, err := p.wait(ctx)
		if err != nil {
			return nil, err
		}
		out[i] = cache.Layer{DiffID: id, Created: p.created, Description: p.description}
	}
	return out, nil
}

// fromLayers is a result of layers that are all here.
func fromLayers(layers []cache.Layer) *result {
	r := &result{parts: make([]*part, len(layers))}
	for i, l := range layers {
		r.parts[i] = layerPart(l.DiffID, l.Created, l.Description)
	}
	return r
}

// stack is a result that can be mounted. Whoever got it releases it.
type stack struct {
	*layer.Stack
	below *layer.Stack // that was taken of the store; the same as Stack if no directories are on it
	held  []*part
}

func (st *stack) release() error {
	var errs []error
	if st.Stack != st.below {
		st.Stack.Release()
	}
	if st.below != nil {
		st.below.Release()
	}
	for _, p := range st.held {
		errs = append(errs, p.drop())
	}
	st.held = nil
	return errors.Join(errs...)
}

// stack makes a stack of the layers of r, and of directories where the upper parts are no layers yet
// and lie on just what they were made on. For what lies elsewhere (a merge) it waits.
func (s *Solver) stack(ctx context.Context, r *result) (_ *stack, err error) {
	st := &stack{}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.release())
		}
	}()
	n := len(r.parts)
	for n > 0 && r.parts[n-1].standsOn(r.parts[:n-1]) && r.parts[n-1].hold() {
		n--
		st.held = append(st.held, r.parts[n])
	}
	ids := make([]digest.Digest, 0, len(r.parts))
	for _, p := range r.parts[:n] {
		id, err := p.wait(ctx)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	for n < len(r.parts) && r.parts[n].isReady() { // a layer is better: the directory can go
		ids = append(ids, r.parts[n].id)
		n++
	}
	if st.below, err = s.opts.Layers.Stack(ctx, ids); err != nil {
		return nil, err
	}
	st.Stack = st.below
	if n < len(r.parts) {
		uppers := make([]*layer.Upper, 0, len(r.parts)-n)
		for _, p := range r.parts[n:] {
			uppers = append(uppers, p.upper)
		}
		st.Stack = st.below.On(uppers...)
	}
	return st, nil
}

// standsOn says whether p is a directory that was made on just these parts.
func (p *part) standsOn(below []*part) bool {
	return p.upper != nil && p.base != nil && slices.Equal(p.base.parts, below)
}

// view mounts r for reading. The caller closes the file and releases the stack.
func (s *Solver) view(ctx context.Context, r *result) (*os.File, *stack, error) {
	st, err := s.stack(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	f, err := st.Mount(ctx, nil, layer.MountOptions{})
	if err != nil {
		return nil, nil, errors.Join(err, st.release())
	}
	return f, st, nil
}

// workspace is a writable directory on a result, mounted.
type workspace struct {
	s     *Solver
	base  *result
	st    *stack
	upper *layer.Upper
	root  *os.File // nil once unmounted
}

// workspace makes one. The caller ends it with finish or discard.
func (s *Solver) workspace(ctx context.Context, base *result) (_ *workspace, err error) {
	st, err := s.stack(ctx, base)
	if err != nil {
		return nil, err
	}
	w := &workspace{s: s, base: base, st: st}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.discard())
		}
	}()
	if w.upper, err = s.opts.Layers.NewUpper(s.newDir()); err != nil {
		return nil, err
	}
	w.root, err = st.Mount(ctx, w.upper, layer.MountOptions{Volatile: true})
	return w, err
}

// newDir names a directory that is not there.
func (s *Solver) newDir() string {
	return filepath.Join(s.opts.Root, uppersDir, fmt.Sprintf("%d", s.count.Add(1)))
}

func (w *workspace) unmount() error {
	if w.root == nil {
		return nil
	}
	err := w.root.Close()
	w.root = nil
	return err
}

// discard throws everything away. It may be called after finish, and does nothing then.
func (w *workspace) discard() error {
	if w.st == nil {
		return nil
	}
	err := w.unmount()
	if w.upper != nil {
		err = errors.Join(err, w.upper.Destroy())
	}
	err = errors.Join(err, w.st.release())
	w.st = nil
	return err
}

// finish unmounts the directory, brings it to what its layer will say, and begins to make a layer of
// it. The result can be stood on at once.
func (w *workspace) finish(ctx context.Context, o layer.DiffOptions, created time.Time, description string) (_ *result, err error) {
	defer func() { err = errors.Join(err, w.discard()) }()
	if err := w.unmount(); err != nil {
		return nil, err
	}
	if err := w.upper.Settle(ctx, w.st.Stack, o); err != nil {
		return nil, err
	}
	p := &part{created: created, description: description, base: w.base, upper: w.upper, diff: o, ready: make(chan struct{}), users: 1}
	out := w.base.onto(p)
	err = w.st.release()
	w.st = nil
	w.s.convert(p)
	return out, err
}

// convert makes p's directory a layer, in the background. p is held once for it.
func (s *Solver) convert(p *part) {
	s.mu.Lock()
	s.register(p)
	s.mu.Unlock()
	s.background.Go(func() {
		id, err := s.convertNow(s.ctx, p)
		if err == nil {
			p.upper.Became(id)
			p.id = id
		} else {
			p.err = fmt.Errorf("make a layer of %q: %w", p.description, err)
		}
		s.ended(p, func() { close(p.ready) })
		if err := p.drop(); err != nil {
			s.opts.Log.Warn("a build step's directory stays until the next start", "error", err)
		}
	})
}

func (s *Solver) convertNow(ctx context.Context, p *part) (_ digest.Digest, err error) {
	st, err := s.stack(ctx, p.base)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, st.release()) }()
	select { // after the stack, which may wait for other conversions
	case <-ctx.Done():
		return "", ctx.Err()
	case s.converting <- struct{}{}:
	}
	defer func() { <-s.converting }()
	return s.put(ctx, func(w io.Writer) error { return p.upper.WriteTar(ctx, st.Stack, w, p.diff) })
}

// put stores the tar that write writes as a layer.
func (s *Solver) put(ctx context.Context, write func(io.Writer) error) (digest.Digest, error) {
	r, w := io.Pipe()
	var writer sync.WaitGroup
	writer.Go(func() { w.CloseWithError(write(w)) })
	l, err := s.opts.Layers.PutHeld(ctx, r, "", s.holdMade)
	r.CloseWithError(err)
	writer.Wait()
	return l.DiffID, err
}
