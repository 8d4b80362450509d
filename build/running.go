package build

import (
	"sync"
	"time"
)

// running knows since when there are builds. The zero value knows of none.
type running struct {
	mu    sync.Mutex
	began map[*time.Time]struct{} // guarded by mu
}

// begin notes that a build begins; end that it has ended.
func (r *running) begin() (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began == nil {
		r.began = map[*time.Time]struct{}{}
	}
	now := time.Now()
	r.began[&now] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.began, &now)
	}
}

// since is when the oldest build that runs began, or now.
func (r *running) since() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := time.Now()
	for t := range r.began {
		if t.Before(oldest) {
			oldest = *t
		}
	}
	return oldest
}
