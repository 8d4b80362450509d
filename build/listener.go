package build

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/build/solver"
)

// maxUnheard is how many bytes of steps' output wait for a listener that is slow. What comes beyond is
// left out, and said to be.
const maxUnheard = 4 << 20

// eventCost is what an event of output counts beside its text, in bytes: many tiny ones are much, too.
const eventCost = 128

// patience is how long a listener that does not return may keep a build that is over: its client has
// gone, or has not but reads nothing.
const patience = 5 * time.Second

// listener passes the events of one build to its Progress, from a goroutine of its own, so that nobody
// who has something to tell waits for who listens: a client that reads nothing stops neither its steps,
// which others may wait for, nor anybody else. Only output is ever left out; of what was transferred the
// latest number is enough.
type listener struct {
	progress func(Event)
	ended    chan struct{} // closed when progress will not be called any more

	mu     sync.Mutex
	more   sync.Cond                  // of mu: the queue is not empty, or closed
	queue  []*unheard                 // guarded by mu
	last   map[digest.Digest]*unheard // of each vertex what is the last in the queue; guarded by mu
	bytes  int                        // what the output in the queue costs; guarded by mu
	closed bool                       // nothing comes any more; guarded by mu
}

// unheard is an event in the queue, or in place of output that is not there the number of its bytes.
type unheard struct {
	Event
	missing int
}

// listen returns a listener that calls progress. The caller closes it. nil, for which nobody need be
// called, is one that does nothing.
func listen(progress func(Event)) *listener {
	if progress == nil {
		return nil
	}
	l := &listener{progress: progress, ended: make(chan struct{}), last: map[digest.Digest]*unheard{}}
	l.more.L = &l.mu
	go l.run()
	return l
}

// tell queues an event. It never blocks. The event's Data is kept.
func (l *listener) tell(e Event) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	last := l.last[e.Vertex]
	switch {
	case e.Kind == solver.Status && last != nil && last.Kind == solver.Status && last.Name == e.Name:
		last.Event = e
		return
	case e.Kind == solver.Log && l.bytes > 0 && l.bytes+cost(e) > maxUnheard:
		if last != nil && last.missing > 0 {
			last.missing += len(e.Data)
			return
		}
		l.push(&unheard{Event: Event{Kind: solver.Log, Vertex: e.Vertex, Time: e.Time, Stream: 2}, missing: len(e.Data)})
		return
	case e.Kind == solver.Log:
		l.bytes += cost(e)
	}
	l.push(&unheard{Event: e})
}

func cost(e Event) int { return eventCost + len(e.Data) }

// push needs mu held.
func (l *listener) push(u *unheard) {
	l.queue = append(l.queue, u)
	l.last[u.Vertex] = u
	l.more.Signal()
}

// next waits for an event; false when there will be none.
func (l *listener) next() (Event, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.more.Wait()
	}
	if len(l.queue) == 0 {
		return Event{}, false
	}
	u := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	if l.last[u.Vertex] == u {
		delete(l.last, u.Vertex)
	}
	switch {
	case u.missing > 0:
		u.Data = fmt.Appendf(nil, "\n[%d bytes of output are left out: they were not read in time]\n", u.missing)
	case u.Kind == solver.Log:
		l.bytes -= cost(u.Event)
	}
	return u.Event, true
}

func (l *listener) run() {
	defer close(l.ended)
	for e, ok := l.next(); ok; e, ok = l.next() {
		l.progress(e)
	}
}

// close waits until progress got everything. Once ctx has ended it waits for no longer than the given
// time; what is queued then is thrown away, and a call that still goes on is the last.
func (l *listener) close(ctx context.Context, patience time.Duration) {
	if l == nil {
		return
	}
	l.mu.Lock()
	l.closed = true
	l.more.Signal()
	l.mu.Unlock()
	select {
	case <-l.ended:
		return
	case <-ctx.Done():
	}
	within := time.NewTimer(patience)
	defer within.Stop()
	select {
	case <-l.ended:
	case <-within.C:
		l.mu.Lock()
		l.queue = nil
		l.mu.Unlock()
	}
}
