package engine

import (
	"sync"

	"github.com/opencontainers/go-digest"
)

// leases keep layers and blobs from being collected while they are made, read or sent: whoever needs one puts it on a
// lease before it looks whether it is here.
type leases struct {
	// mu is also held while something is collected, syncing included: what is looked for is not going away. It comes
	// before all other locks: the engine's, the builder's, the solver's, the cache's, and those of the stores.
	mu     sync.Mutex
	counts map[digest.Digest]int
	naming map[digest.Digest]int  // images that somebody is about to name; guarded by mu
	using  map[digest.Digest]int  // images that a container is being made of; guarded by mu
	doubts map[digest.Digest]bool // of counts, what is to be collected when nobody holds it any more; guarded by mu
}

// lease is one holder's. Its methods may be called from several goroutines.
type lease struct {
	of    *leases
	held  []digest.Digest // guarded by of.mu
	named []digest.Digest // of held, what is to be named; guarded by of.mu
	used  []digest.Digest // of held, what is to be a container; guarded by of.mu
}

// lease begins one. The caller ends it (Engine.endLease, endWork).
func (l *leases) lease() *lease { return &lease{of: l} }

// hold keeps digests until end. It waits for what is being collected: whether something is here is to be seen afterwards.
func (l *lease) hold(digests ...digest.Digest) {
	l.mark(&l.of.counts, &l.held, digests...)
}

// name holds an image that is about to be named, until end: its record does not go as long.
func (l *lease) name(id digest.Digest) {
	l.hold(id)
	l.mark(&l.of.naming, &l.named, id)
}

// use holds an image that a container is being made of, until end: only force takes its record away as long.
func (l *lease) use(id digest.Digest) {
	l.hold(id)
	l.mark(&l.of.using, &l.used, id)
}

// mark counts digests, and notes them in the list by which end uncounts them.
func (l *lease) mark(counts *map[digest.Digest]int, list *[]digest.Digest, digests ...digest.Digest) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if *counts == nil {
		*counts = map[digest.Digest]int{}
	}
	for _, d := range digests {
		(*counts)[d]++
	}
	*list = append(*list, digests...)
}

// doubt says that digests may have been held for nothing. Without any, all that the lease holds is meant.
func (l *lease) doubt(digests ...digest.Digest) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if len(digests) == 0 {
		digests = l.held
	}
	l.of.doubt(digests)
}

// doubt needs mu held.
func (l *leases) doubt(digests []digest.Digest) {
	if l.doubts == nil {
		l.doubts = map[digest.Digest]bool{}
	}
	for _, d := range digests {
		if l.counts[d] > 0 {
			l.doubts[d] = true
		}
	}
}

// end lets go of everything, and returns what of it is to be collected: what is in doubt and nobody else holds. Ending
// twice does nothing.
func (l *lease) end() (free []digest.Digest) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	for _, d := range l.held {
		if !uncount(l.of.counts, d) && l.of.doubts[d] {
			delete(l.of.doubts, d)
			free = append(free, d)
		}
	}
	for _, d := range l.named {
		uncount(l.of.naming, d)
	}
	for _, d := range l.used {
		uncount(l.of.using, d)
	}
	l.held, l.named, l.used = nil, nil, nil
	return free
}

// uncount says whether somebody still counts.
func uncount(counts map[digest.Digest]int, d digest.Digest) bool {
	if counts[d]--; counts[d] > 0 {
		return true
	}
	delete(counts, d)
	return false
}
