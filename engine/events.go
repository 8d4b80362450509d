package engine

import (
	"sync"
	"time"
)

// Event is something that happened to an object, in Docker's words (API, SystemEvents).
type Event struct {
	Type       string // "container", "image", "volume", "network", "builder", "daemon"
	Action     string // "create", "start", "die", …
	ID         string // of the object; an image's name
	Attributes map[string]string
	Time       time.Time
}

// eventsKept is how many past events a new subscriber can ask for (as Docker's daemon).
const eventsKept = 256

// Events tells subscribers what happens. The zero value is ready.
type Events struct {
	mu   sync.Mutex
	past []Event             // guarded by mu; the newest last
	subs map[chan Event]bool // guarded by mu
}

// publish tells everybody. It never waits: who has fallen 1024 events behind misses some.
func (e *Events) publish(kind, action, id string, attributes map[string]string) {
	ev := Event{kind, action, id, attributes, time.Now()}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.past = append(e.past, ev)
	if extra := len(e.past) - eventsKept; extra > 0 {
		e.past = e.past[extra:]
	}
	for ch := range e.subs {
		select {
		case ch <- ev:
		default:
		}
	}
}

// Subscribe returns what happens from here on, and the past events that are still known. cancel ends it.
func (e *Events) Subscribe() (past []Event, news <-chan Event, cancel func()) {
	ch := make(chan Event, 1024)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subs == nil {
		e.subs = map[chan Event]bool{}
	}
	e.subs[ch] = true
	return append([]Event(nil), e.past...), ch, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.subs, ch)
	}
}

// Subscribers returns how many there are.
func (e *Events) Subscribers() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.subs)
}

// Events is where to subscribe.
func (e *Engine) Events() *Events { return &e.events }
