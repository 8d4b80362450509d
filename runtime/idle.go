package runtime

import "github.com/berth-engine/berth/runtime/protocol"

// An idle shim is one whose container has ended, and that can keep another one: a slot is made of it without the start
// of a process.

// reuses is how many containers one shim keeps at most, one after the other.
const reuses = 64

// reuse takes over a shim whose container has ended, where there is going to be use for it. It is ready for another
// container when it says so.
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
	return s.wanted()
}

// wanted is wants: there is use for as many as slots are missing, and for one more, of which the slot is made that the
// next container takes. One of which no slot could be made is of none. mu must be held.
func (s *slots) wanted() bool {
	return s.wake != nil && !s.closed && s.model != nil && s.model.failed == 0 && len(s.idle) < max(s.missing(), 0)+1
}

// offer takes a shim that can keep another container; false: there is no use for it.
func (s *slots) offer(p *shimProcess) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.wanted() {
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

// dropIdle ends them all.
func (s *slots) dropIdle() {
	s.mu.Lock()
	idle := s.idle
	s.idle = nil
	s.mu.Unlock()
	for _, p := range idle {
		_ = p.conn.Close() // it ends by itself
		<-p.gone
	}
}
