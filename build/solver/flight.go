package solver

import (
	"bytes"
	"context"
	"errors"
	"sync"
)

// flight is a step that runs for several builds.
type flight struct {
	ctx    context.Context // of the step
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	lands  bool                // it is done, or nobody waits: nobody may join; guarded by mu
	log    []Event             // that it started and what was logged so far, for who joins late; guarded by mu
	logged int                 // bytes in log; guarded by mu
	hear   map[int]func(Event) // of builds that wait, by number; none of them blocks; guarded by mu
	number int                 // of the next build; guarded by mu

	// Set before done is closed.
	result *execution
	err    error
	stale  bool // it failed because the build that ran it has gone
}

// maxReplay is how many bytes of a step's output a build that joins late gets to see.
const maxReplay = 256 << 10

// emit tells everybody who waits. The event's Data is the caller's afterwards.
func (f *flight) emit(e Event) {
	e.Data = bytes.Clone(e.Data)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, hear := range f.hear {
		hear(e)
	}
	if e.Kind == Started || e.Kind == Log && f.logged < maxReplay {
		f.log = append(f.log, e)
		f.logged += len(e.Data)
	}
}

// join makes the build with hear wait for the flight, and gives it a number; false if it is over.
func (f *flight) join(hear func(Event)) (int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lands {
		return 0, false
	}
	for _, e := range f.log {
		hear(e)
	}
	f.number++
	f.hear[f.number] = hear
	return f.number, true
}

// leave is called by a build that no longer waits. The last cancels the step.
func (f *flight) leave(number int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.hear, number)
	if len(f.hear) == 0 {
		f.lands = true
		f.cancel()
	}
}

// once runs the step key, or waits for the build that runs it already. run gets a context that ends when
// nobody waits any more (or the Solver closes), and where to tell what happens. gone is closed when the
// calling build's client has gone. Nobody inherits another's cancellation: what failed because of it
// runs again.
func (s *Solver) once(ctx context.Context, key string, gone <-chan struct{}, hear func(Event), run func(ctx context.Context, emit func(Event)) (*execution, error)) (*execution, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, number, mine := s.board(key, hear)
		if mine {
			s.start(f, key, gone, run)
		}
		select {
		case <-ctx.Done():
			f.leave(number)
			return nil, ctx.Err()
		case <-f.done:
		}
		if f.err != nil && f.stale && !mine {
			continue
		}
		return f.result, f.err
	}
}

// board joins the flight of key, or makes one.
func (s *Solver) board(key string, hear func(Event)) (f *flight, number int, mine bool) {
	var over *flight
	for {
		f, mine = s.flightOf(key, over, hear)
		if mine {
			return f, firstNumber, true
		}
		if number, ok := f.join(hear); ok {
			return f, number, false
		}
		over = f
	}
}

// firstNumber is that of the build that makes a flight.
const firstNumber = 1

// flightOf gives the flight of key, or, where there is none or only the one that is over, a new one in
// which the build with hear is.
func (s *Solver) flightOf(key string, over *flight, hear func(Event)) (f *flight, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.flights[key]; ok && f != over {
		return f, false
	}
	f = &flight{done: make(chan struct{}), hear: map[int]func(Event){firstNumber: hear}, number: firstNumber}
	f.ctx, f.cancel = context.WithCancel(s.ctx)
	s.flights[key] = f
	s.register(f)
	return f, true
}

func (s *Solver) start(f *flight, key string, gone <-chan struct{}, run func(ctx context.Context, emit func(Event)) (*execution, error)) {
	s.background.Go(func() {
		defer f.cancel()
		f.result, f.err = run(f.ctx, f.emit)
		f.mu.Lock()
		f.lands = true
		f.mu.Unlock()
		if f.err != nil {
			select {
			case <-gone:
				f.stale = true
			default:
				f.stale = errors.Is(f.err, context.Canceled) && s.ctx.Err() == nil
			}
		}
		s.ended(f, func() {
			if s.flights[key] == f {
				delete(s.flights, key)
			}
			close(f.done)
		})
	})
}
