package solver

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// hold is what is kept from deletion for those who are executed at the moment.
type hold struct {
	made    digest.Digest // a layer that no record may name yet; "" for what is held of an image
	at      time.Time     // a moment before it was held
	release func()
}

// begin notes that a job is executed.
func (s *Solver) begin(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs[j] = time.Now()
}

// end notes that it was.
func (s *Solver) end(j *job) {
	s.mu.Lock()
	delete(s.jobs, j)
	s.mu.Unlock()
	s.letGo(nil)
}

// register notes what may outlive the job that it is for: a flight, or a conversion. Until it is deleted from running,
// what the oldest job of this moment stands on stays. It needs mu held.
func (s *Solver) register(what any) { s.running[what] = oldest(s.jobs) }

// oldest is the earliest of times, or now.
func oldest[K comparable](times map[K]time.Time) time.Time {
	first := time.Now()
	for _, t := range times {
		if t.Before(first) {
			first = t
		}
	}
	return first
}

// Since is a moment before which nothing began that is executed: records that were come to since then may be what it
// stands on.
func (s *Solver) Since() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since()
}

// since needs mu held.
func (s *Solver) since() time.Time {
	job, rest := oldest(s.jobs), oldest(s.running)
	if rest.Before(job) {
		return rest
	}
	return job
}

// holdMade has a layer that is made stay until what is executed at the moment is over: by then a record names it, or
// nobody needs it.
func (s *Solver) holdMade(id digest.Digest) {
	at := time.Now()
	s.hold(hold{id, at, s.opts.Hold(id)}) // mu is not held: Hold may wait for somebody who asks for Layers
}

func (s *Solver) hold(h hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, h)
}

// letGo releases what was held before everything began that is executed. Layers that were made, and that no record
// names, are dropped, and so are those that the caller has doubts about.
func (s *Solver) letGo(doubtful []digest.Digest) {
	for _, h := range s.over() {
		h.release()
		if h.made != "" {
			doubtful = append(doubtful, h.made)
		}
	}
	if len(doubtful) == 0 {
		return
	}
	layers, err := s.Layers()
	if err != nil { // closed: the next start looks
		return
	}
	named := map[digest.Digest]bool{}
	for _, id := range layers {
		named[id] = true
	}
	if doubtful = slices.DeleteFunc(doubtful, func(id digest.Digest) bool { return named[id] }); len(doubtful) > 0 {
		s.opts.Drop(doubtful)
	}
}

// over takes what need not be held any more out of held.
func (s *Solver) over() (all []hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) == 0 {
		return nil
	}
	since := s.since()
	s.held = slices.DeleteFunc(s.held, func(h hold) bool {
		if !h.at.Before(since) {
			return false
		}
		all = append(all, h)
		return true
	})
	return all
}
