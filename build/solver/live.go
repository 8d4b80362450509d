package solver

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/build/cache"
)

// execution is what a step gave: results by output.
type execution struct {
	id      cache.ID
	outputs map[int]*result
}

// remember makes a record's results known to other builds at once, and to the cache when they are layers.
func (s *Solver) remember(e *execution) {
	s.ended(nil, func() { s.live[e.id] = e })
}

// ended is called when what was registered (not nil) has ended, and tells of it by done, which has mu held. Results of
// which all parts are layers, or never will be, go into the cache: whoever was told finds them there.
func (s *Solver) ended(what any, done func()) {
	s.mu.Lock()
	done()
	delete(s.running, what)
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

// Layers lists the layers that results and records name. Those that are being made are held.
func (s *Solver) Layers() ([]digest.Digest, error) {
	made := s.made() // before the cache's: it is there that they go
	cached, err := s.opts.Cache.Layers()
	if err != nil {
		return nil, err
	}
	return append(made, cached...), nil
}

// made are the layers of steps that ran, which no record names yet.
func (s *Solver) made() (all []digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.live {
		for _, r := range e.outputs {
			all = append(all, r.ready()...)
		}
	}
	return all
}
