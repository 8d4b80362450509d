package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-engine/berth/internal/hexid"
	"github.com/berth-engine/berth/runtime/cgroup"
	"github.com/berth-engine/berth/runtime/compile"
	"github.com/berth-engine/berth/runtime/protocol"
)

// A warm slot is a shim with a child that has played the first half of a start, under an id made ahead. It can become
// any container that looks like the one that it was modelled on: the one that was started last.
const (
	// quiet is how long no container must have been started before slots are made: not beside a burst of starts.
	quiet = 2 * time.Millisecond
	// promised is how long a slot waits for the container that took its id.
	promised = 10 * time.Second
	// look is how often the machine's memory is looked at while slots wait.
	look = 10 * time.Second
	// again is after how long a slot that could not be made is tried again, at first; each failure doubles it.
	again = 10 * time.Second
	// rarely is the longest that it becomes.
	rarely = time.Hour
)

// slots are a launcher's warm slots.
type slots struct {
	dir    string
	most   int           // how many are to wait
	wake   chan struct{} // has a token when there is something to do
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	waiting []*slot        // guarded by mu
	leaving []*slot        // that end just now, and still have their cgroups; guarded by mu
	idle    []*shimProcess // that have kept a container, and can keep another one; guarded by mu
	closed  bool           // none is wanted any more; guarded by mu
	model   *slotModel     // what new ones look like, nil: nobody knows yet; guarded by mu
	started time.Time      // when a container was started last; guarded by mu
}

// slotModel is what a slot is made for.
type slotModel struct {
	spec   *specs.Spec // only what Prepare looks at
	parent string      // cgroup that the containers' are in
	late   bool        // the network namespace comes with the container
	failed int         // slots that could not be made of it, one after the other; guarded by slots.mu
	retry  time.Time   // when the next one is tried; guarded by slots.mu
}

// slot is one that waits.
type slot struct {
	id       string
	model    *slotModel
	process  *shimProcess
	promised time.Time     // when NewID gave its id away; zero: not yet
	left     chan struct{} // closed when nothing is left of it
}

// openSlots begins to keep slots.
func (l *Launcher) openSlots() error {
	s := &l.slots
	s.dir, s.most = filepath.Join(l.opts.ExecRoot, "slots"), l.opts.Slots
	if err := os.RemoveAll(s.dir); err != nil { // an earlier engine's: its slots ended with it
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(l.ctx)
	s.wake, s.done = make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(s.done)
		l.keepSlots(ctx)
	}()
	return nil
}

// closeSlots gives up every slot, and waits until they are gone.
func (l *Launcher) closeSlots() {
	s := &l.slots
	s.cancel()
	<-s.done
	s.mu.Lock()
	waiting := s.waiting
	s.waiting, s.leaving, s.closed = nil, append(s.leaving, waiting...), true
	s.mu.Unlock()
	l.giveUp(waiting)
	s.dropIdle()
	_ = os.RemoveAll(s.dir) // empty but for last words
}

// keepSlots makes slots when there is time for it, and gives them up where they are not wanted.
func (l *Launcher) keepSlots(ctx context.Context) {
	timer := time.NewTimer(look)
	defer timer.Stop()
	for {
		next := look
		if l.busy() {
			next = quiet
		} else {
			short := l.scarce()
			l.giveUp(l.slots.unwanted(short))
			if short {
				l.slots.dropIdle()
			} else {
				l.fill(ctx)
				next = l.slots.next()
			}
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-l.slots.wake:
		case <-timer.C:
		}
	}
}

// busy tells whether a container is being started, or was just now.
func (l *Launcher) busy() bool {
	if l.opts.Busy != nil && l.opts.Busy() {
		return true
	}
	l.slots.mu.Lock()
	defer l.slots.mu.Unlock()
	return time.Since(l.slots.started) < quiet
}

// next is after how long there may be something to do that nobody tells of, at most at the next look.
func (s *slots) next() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.model != nil && s.model.failed > 0 {
		return min(look, max(time.Until(s.model.retry), time.Millisecond))
	}
	return look
}

// unwanted takes out the slots that nobody will claim: of another model than today's, promised long ago, dead; all of
// them where memory is scarce.
func (s *slots) unwanted(short bool) (out []*slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keep []*slot
	for _, w := range s.waiting {
		expired := !w.promised.IsZero() && time.Since(w.promised) > promised
		if short || expired || w.process.isGone() || w.model != s.model && w.promised.IsZero() {
			out = append(out, w)
		} else {
			keep = append(keep, w)
		}
	}
	s.waiting, s.leaving = keep, append(s.leaving, out...)
	return out
}

// fill makes the slots that are missing.
func (l *Launcher) fill(ctx context.Context) {
	s := &l.slots
	for ctx.Err() == nil && !l.busy() {
		s.mu.Lock()
		model, missing := s.model, s.missing()
		s.mu.Unlock()
		if missing <= 0 {
			return
		}
		w, err := l.newSlot(ctx, model)
		s.mu.Lock()
		if err != nil { // containers start without
			model.retry = time.Now().Add(min(l.again<<min(model.failed, 20), rarely))
			model.failed++
		} else {
			model.failed = 0
			s.waiting = append(s.waiting, w)
		}
		s.mu.Unlock()
	}
}

// missing is how many slots could be made now. mu must be held.
func (s *slots) missing() int {
	if s.closed || s.model == nil || time.Now().Before(s.model.retry) {
		return 0
	}
	return s.most - s.free()
}

// free is how many slots wait for whoever comes. mu must be held.
func (s *slots) free() int {
	n := 0
	for _, w := range s.waiting {
		if w.promised.IsZero() {
			n++
		}
	}
	return n
}

// newSlot makes a slot and waits until it waits: of a shim that is idle or, where none can do it, of a new process.
func (l *Launcher) newSlot(ctx context.Context, model *slotModel) (*slot, error) {
	for p := l.slots.takeIdle(); p != nil; p = l.slots.takeIdle() {
		w, err := l.prepare(ctx, model, hexid.New(), p)
		if err == nil || ctx.Err() != nil {
			return w, err
		}
	}
	return l.prepare(ctx, model, hexid.New(), nil)
}

// prepare makes a slot of the shim, nil: of a new one. Where it fails nothing is left of either.
func (l *Launcher) prepare(ctx context.Context, model *slotModel, id string, p *shimProcess) (_ *slot, err error) {
	w := &slot{id: id, model: model, process: p, left: make(chan struct{})}
	log := l.slotLog(w.id)
	if p == nil {
		if w.process, err = l.launch(w.id, log); err != nil {
			return nil, err
		}
		log = "" // it has it
	}
	stop := w.process.interrupt(ctx)
	defer stop()
	err = w.process.conn.Send(protocol.Prepare, protocol.PrepareRequest{ID: w.id, Log: log, Spec: model.spec, Cgroup: w.cgroup(), LateNetwork: model.late})
	var m protocol.Message
	if err == nil {
		m, err = w.process.conn.Recv()
	}
	if err == nil && m.Kind == protocol.Failed {
		var f protocol.Failure
		if err = m.Decode(&f); err == nil {
			err = startError(f, nil)
		}
	}
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		l.giveUp([]*slot{w})
		return nil, err
	}
	return w, nil
}

func (w *slot) cgroup() string { return path.Join(w.model.parent, w.id) }

func (l *Launcher) slotLog(id string) string { return filepath.Join(l.slots.dir, id+".log") }

// giveUp ends slots, which are no longer among those that wait, and waits until they are gone, with their cgroups.
func (l *Launcher) giveUp(gone []*slot) {
	for _, w := range gone {
		_ = w.process.conn.Close() // it ends by itself, and takes its cgroup along
	}
	for _, w := range gone {
		<-w.process.gone
		_ = os.Remove(l.slotLog(w.id))
		_ = l.removeGroup(l.ctx, w.cgroup()) // of a shim that was killed
		close(w.left)
	}
	l.slots.mu.Lock()
	defer l.slots.mu.Unlock()
	l.slots.leaving = slices.DeleteFunc(l.slots.leaving, func(w *slot) bool { return slices.Contains(gone, w) })
}

// Waiting returns how many slots wait for a container.
func (l *Launcher) Waiting() int {
	l.slots.mu.Lock()
	defer l.slots.mu.Unlock()
	return l.slots.free()
}

// promise returns the id of a slot that waits, for a container that will be started soon; "" if there is none.
func (l *Launcher) promise() string {
	s := &l.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.waiting {
		if w.promised.IsZero() && !w.process.isGone() {
			w.promised = time.Now()
			return w.id
		}
	}
	return ""
}

// claim returns the slot that has the container's id, nil where there is none that can become it.
func (l *Launcher) claim(cfg *Config) (*shimProcess, error) {
	w, leaving := l.slots.take(cfg.ID)
	if leaving != nil {
		<-leaving.left // a new shim's cgroup has the same name
	}
	if w == nil {
		return nil, nil
	}
	if w.fits(cfg) != nil {
		l.giveUp([]*slot{w})
		return nil, nil
	}
	if err := os.Rename(l.slotLog(w.id), filepath.Join(cfg.Dir, crashLog)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.giveUp([]*slot{w})
		return nil, err
	}
	return w.process, nil
}

// take takes the slot of that id out, nil if there is none. leaving is one that ends just now.
func (s *slots) take(id string) (w, leaving *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.waiting {
		if w.id == id {
			s.waiting = slices.Delete(slices.Clone(s.waiting), i, i+1)
			return w, nil
		}
	}
	for _, w := range s.leaving {
		if w.id == id {
			return nil, w
		}
	}
	return nil, nil
}

// fits tells whether the slot can become the container: nil, or why not.
func (w *slot) fits(cfg *Config) error {
	switch {
	case w.process.isGone():
		return errors.New("it is gone")
	case cfg.Spec.Linux == nil || path.Clean(cfg.Spec.Linux.CgroupsPath) != w.cgroup():
		return errors.New("the cgroup is another")
	case (cfg.NetNS != nil) != w.model.late:
		return errors.New("the network is another")
	case cfg.Root == nil:
		return errors.New("the root is no descriptor")
	case len(cgroup.More(cfg.Spec.Linux.Resources)) > 0:
		return errors.New("its limits need controllers that the slot is not in")
	}
	return compile.Fits(w.model.spec, cfg.Spec, cfg.Init)
}

// learn notes what containers look like now, and that one was started.
func (l *Launcher) learn(cfg *Config) {
	if l.opts.Slots <= 0 {
		return
	}
	s := &l.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = time.Now()
	m := modelOf(cfg)
	if m != nil && (s.model == nil || !s.model.equal(m)) {
		s.model = m
	}
	s.nudge()
}

// nudge has keepSlots look what there is to do.
func (s *slots) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it will, or there is no keepSlots
	}
}

// modelOf returns what a slot for containers like this one is made of; nil where there is no use in one.
func modelOf(cfg *Config) *slotModel {
	if cfg.Root == nil || cfg.Spec.Linux == nil || path.Base(cfg.Spec.Linux.CgroupsPath) != cfg.ID {
		return nil
	}
	m := &slotModel{late: cfg.NetNS != nil, parent: path.Dir(path.Clean(cfg.Spec.Linux.CgroupsPath))}
	m.spec = &specs.Spec{Version: cfg.Spec.Version, Linux: &specs.Linux{Namespaces: cfg.Spec.Linux.Namespaces, RootfsPropagation: cfg.Spec.Linux.RootfsPropagation}}
	for _, mount := range cfg.Spec.Mounts {
		if mount.Type != "bind" {
			m.spec.Mounts = append(m.spec.Mounts, mount)
		}
	}
	return m
}

// equal tells whether slots of the one serve the other as well.
func (m *slotModel) equal(n *slotModel) bool {
	return m.parent == n.parent && m.late == n.late && fmt.Sprint(m.spec.Linux, m.spec.Mounts) == fmt.Sprint(n.spec.Linux, n.spec.Mounts)
}
