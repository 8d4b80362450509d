package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

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
	// scarce is how much memory must be available for slots to be kept, in percent.
	scarce = 5
)

// slots are a launcher's warm slots.
type slots struct {
	dir    string
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
	bad    bool        // no slot can be made of it
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
	s.dir = filepath.Join(l.opts.ExecRoot, "slots")
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
	waiting, idle := s.waiting, s.idle
	s.waiting, s.leaving, s.idle, s.closed = nil, append(s.leaving, waiting...), nil, true
	s.mu.Unlock()
	l.giveUp(waiting)
	for _, p := range idle {
		_ = p.conn.Close() // it ends by itself
		<-p.gone
	}
	_ = os.RemoveAll(s.dir) // empty but for last words
}

// keepSlots makes slots when there is time for it, and gives them up where they are not wanted.
func (l *Launcher) keepSlots(ctx context.Context) {
	timer := time.NewTimer(look)
	defer timer.Stop()
	for {
		next := look
		if l.slots.busy() {
			next = quiet
		} else {
			l.giveUp(l.slots.unwanted())
			if !memoryIsScarce() {
				l.fill(ctx)
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

// busy tells whether a container was started just now.
func (s *slots) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.started) < quiet
}

// unwanted takes out the slots that nobody will claim: of another model than today's, promised long ago, dead; all of
// them where memory is scarce.
func (s *slots) unwanted() (out []*slot) {
	scarce := memoryIsScarce()
	s.mu.Lock()
	defer s.mu.Unlock()
	var keep []*slot
	for _, w := range s.waiting {
		expired := !w.promised.IsZero() && time.Since(w.promised) > promised
		if scarce || expired || w.process.isGone() || w.model != s.model && w.promised.IsZero() {
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
	for ctx.Err() == nil && !s.busy() {
		s.mu.Lock()
		free, model := 0, s.model
		for _, w := range s.waiting {
			if w.promised.IsZero() {
				free++
			}
		}
		enough := free >= l.opts.Slots || model == nil || model.bad
		s.mu.Unlock()
		if enough {
			return
		}
		w, err := l.newSlot(ctx, model)
		s.mu.Lock()
		if err != nil {
			model.bad = true // containers start without; the next one that looks otherwise is tried again
		} else {
			s.waiting = append(s.waiting, w)
		}
		s.mu.Unlock()
	}
}

// newSlot makes a slot and waits until it waits.
func (l *Launcher) newSlot(ctx context.Context, model *slotModel) (_ *slot, err error) {
	w := &slot{id: newID(), model: model, left: make(chan struct{})}
	log := l.slotLog(w.id)
	if w.process = l.slots.takeIdle(); w.process == nil {
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

// reuses is how many containers one shim keeps at most, one after the other.
const reuses = 64

// reuse takes over a shim whose container has ended, where a slot is going to be missing: that saves the start of a
// process. It is ready for another container when it says so.
func (l *Launcher) reuse(p *shimProcess) bool {
	p.kept++
	if p.kept >= reuses || !l.slots.wants() {
		return false
	}
	go func() {
		if m, err := p.conn.Recv(); err != nil || m.Kind != protocol.Idle || !l.slots.offer(p) {
			_ = p.conn.Close()
		}
	}()
	return true
}

// wants tells whether a shim is of use that can keep another container.
func (s *slots) wants() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wake != nil && !s.closed && s.model != nil && !s.model.bad && len(s.idle) < spare
}

// spare is how many shims without a container are held until slots are made of them.
const spare = 2

// offer takes a shim that can keep another container; false: there is no use for it.
func (s *slots) offer(p *shimProcess) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.idle) >= spare {
		return false
	}
	s.idle = append(s.idle, p)
	return true
}

// takeIdle returns one, nil if there is none.
func (s *slots) takeIdle() *shimProcess {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		p := s.idle[0]
		s.idle = s.idle[1:]
		if !p.isGone() {
			return p
		}
		_ = p.conn.Close()
	}
	return nil
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
	n := 0
	for _, w := range l.slots.waiting {
		if w.promised.IsZero() {
			n++
		}
	}
	return n
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
	return compile.Fits(w.model.spec, cfg.Spec)
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
	select {
	case s.wake <- struct{}{}:
	default:
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

// memoryIsScarce tells whether what waits should rather not.
func memoryIsScarce() bool {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return false
	}
	defer f.Close()
	values := map[string]int64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 {
			values[fields[0]], _ = strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return values["MemAvailable:"] < values["MemTotal:"]*scarce/100
}
