package engine

import (
	"sync"

	"github.com/opencontainers/go-digest"
)

// leases keep what is being made from being collected: a pull, a build, a commit holds one and puts
// every layer and blob on it before it looks whether it is here.
type leases struct {
	mu     sync.Mutex // also held while something is collected: what is looked for is not going away
	counts map[digest.Digest]int
	naming map[digest.Digest]int // images that somebody is about to name; guarded by mu
}

// lease is one holder's. Its methods may be called from several goroutines.
type lease struct {
	of    *leases
	held  []digest.Digest // guarded by of.mu
	named []digest.Digest // of held, what is to be named; guarded by of.mu
}

// lease begins one. The caller ends it.
func (l *leases) lease() *lease { return &lease{of: l} }

// hold keeps digests until end. It waits for what is being collected: whether something is here is to be seen afterwards.
func (l *lease) hold(digests ...digest.Digest) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.of.counts == nil {
		l.of.counts = map[digest.Digest]int{}
	}
	for _, d := range digests {
		l.of.counts[d]++
		l.held = append(l.held, d)
	}
}

// name holds an image that is about to be named, until end: its record does not go as long.
func (l *lease) name(id digest.Digest) {
	l.hold(id)
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.of.naming == nil {
		l.of.naming = map[digest.Digest]int{}
	}
	l.of.naming[id]++
	l.named = append(l.named, id)
}

// layer keeps a layer until release.
func (l *leases) layer(id digest.Digest) (release func()) {
	one := l.lease()
	one.hold(id)
	return func() { one.end() }
}

// end lets go of everything and returns what that was. Ending twice does nothing.
func (l *lease) end() (held []digest.Digest) {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	for _, d := range l.held {
		if l.of.counts[d]--; l.of.counts[d] == 0 {
			delete(l.of.counts, d)
		}
	}
	for _, d := range l.named {
		if l.of.naming[d]--; l.of.naming[d] == 0 {
			delete(l.of.naming, d)
		}
	}
	held, l.held, l.named = l.held, nil, nil
	return held
}
