package solver

import (
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/build/cache"
)

// execution is what a step gave: results by output.
type execution struct {
	id      cache.ID
	outputs map[int]*result
}

// madeLayer is a layer that is held, because no record may name it yet.
type madeLayer struct {
	id      digest.Digest
	at      time.Time // a moment before it was made
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

// register notes what may outlive the job that it is for: a flight, a conversion, a result that is not in the cache
// yet. Until it is deleted from pending, what the oldest job of this moment stands on is not forgotten. It needs mu
// held.
func (s *Solver) register(what any) { s.pending[what] = oldest(s.jobs) }

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
	job, rest := oldest(s.jobs), oldest(s.pending)
	if rest.Before(job) {
		return rest
	}
	return job
}

// holdMade has a layer that is made stay until what is executed at the moment is over: by then a record names it, or
// nobody needs it.
func (s *Solver) holdMade(id digest.Digest) {
	at := time.Now()
	release := s.opts.Hold(id) // mu is not held: it may wait for somebody who asks for Layers
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = append(s.made, madeLayer{id, at, release})
}

// letGo releases the layers that were made before everything began that is executed. Those of them that no record
// names are dropped, and so is what the caller has doubts about.
func (s *Solver) letGo(doubtful []digest.Digest) {
	for _, m := range s.settledMade() {
		m.release()
		doubtful = append(doubtful, m.id)
	}
	if len(doubtful) == 0 {
		return
	}
	named := map[digest.Digest]bool{}
	for _, id := range s.Layers() { // before the cache's: it is there that they go
		named[id] = true
	}
	cached, err := s.opts.Cache.Layers()
	if err != nil { // closed: the next start looks
		return
	}
	for _, id := range cached {
		named[id] = true
	}
	if doubtful = slices.DeleteFunc(doubtful, func(id digest.Digest) bool { return named[id] }); len(doubtful) > 0 {
		s.opts.Drop(doubtful)
	}
}

// settledMade takes the layers out of made that need not be held any more.
func (s *Solver) settledMade() (all []madeLayer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.made) == 0 {
		return nil
	}
	since := s.since()
	s.made = slices.DeleteFunc(s.made, func(m madeLayer) bool {
		if !m.at.Before(since) {
			return false
		}
		all = append(all, m)
		return true
	})
	return all
}

// remember makes a record's results known to other builds at once, and to the cache when they are layers.
func (s *Solver) remember(e *execution) {
	s.mu.Lock()
	s.live[e.id] = e
	s.register(e)
	s.mu.Unlock()
	s.over(nil, func() {})
}

// over is called when what was registered is over, if that is not nil, and tells of it by done. Results of which all
// parts are layers, or never will be, go into the cache: whoever was told finds them there.
func (s *Solver) over(what any, done func()) {
	s.mu.Lock()
	done()
	delete(s.pending, what)
	last, forgotten := s.settle()
	s.mu.Unlock()
	if last {
		if err := s.opts.Cache.Commit(); err != nil {
			s.opts.Log.Warn("what a build gave is not remembered", "error", err)
		}
	}
	s.letGo(forgotten)
}

// settle says whether it was the last, and which layers are of results that the cache has no record of any more. It
// needs mu held.
func (s *Solver) settle() (last bool, forgotten []digest.Digest) {
	before := len(s.live)
	for id, e := range s.live {
		if !e.settled() {
			continue
		}
		for index, r := range e.outputs {
			layers, err := r.layers(context.Background()) // nothing is waited for, also when the Solver closes
			if err != nil || !s.opts.Cache.SetOutput(id, index, layers) {
				forgotten = append(forgotten, r.ready()...)
			}
		}
		delete(s.live, id)
		delete(s.pending, e)
	}
	return before > 0 && len(s.live) == 0, forgotten
}

// settled says whether every part is a layer, or will never be.
func (e *execution) settled() bool {
	for _, r := range e.outputs {
		for _, p := range r.parts {
			select {
			case <-p.ready:
			default:
				return false
			}
		}
	}
	return true
}

// ready are the layers of those parts that are some.
func (r *result) ready() (ids []digest.Digest) {
	for _, p := range r.parts {
		if p.isReady() {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// Layers lists the layers of steps that ran, which no record names yet. Those that are being made are held.
func (s *Solver) Layers() (all []digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.live {
		for _, r := range e.outputs {
			all = append(all, r.ready()...)
		}
	}
	return all
}
