package network

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// pool keeps sandboxes of the default network ready: an Attach that takes one makes no link and no
// namespace.
type pool struct {
	c     *Controller
	ready []*readySandbox // guarded by Controller.mu
	taken chan struct{}   // capacity 1: one may be missing
	ctx   context.Context
	stop  context.CancelFunc
	done  sync.WaitGroup
}

type readySandbox struct {
	ns       *os.File
	endpoint Endpoint // without names
}

func newPool(c *Controller) *pool {
	p := &pool{c: c, taken: make(chan struct{}, 1)}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// take returns a sandbox, or nil. It needs Controller.mu.
func (p *pool) take() *readySandbox {
	if len(p.ready) == 0 {
		return nil
	}
	s := p.ready[0]
	p.ready = p.ready[1:]
	select {
	case p.taken <- struct{}{}:
	default:
	}
	return s
}

// start begins to fill the pool, and fills it again whenever one is taken, until close.
func (p *pool) start() {
	if p.c.opts.Warm < 0 {
		return
	}
	p.done.Go(func() {
		for {
			if err := p.fill(); err != nil && p.ctx.Err() == nil {
				p.c.log.Warn("no network could be made ahead", "error", err)
			}
			select {
			case <-p.ctx.Done():
				return
			case <-p.taken:
				p.pause()
			}
		}
	})
}

// restAfterTake is how long the pool leaves the machine to who took a sandbox: making one takes a
// millisecond or two of a core, and the container is just about to start.
const restAfterTake = 5 * time.Millisecond

// pause waits a moment, and as long as a container is being started, unless the pool is empty.
func (p *pool) pause() {
	for !p.empty() {
		t := time.NewTimer(restAfterTake)
		select {
		case <-t.C:
		case <-p.ctx.Done():
			t.Stop()
			return
		}
		if busy := p.c.opts.Busy; busy == nil || !busy() {
			return
		}
	}
}

func (p *pool) empty() bool {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return len(p.ready) == 0
}

func (p *pool) fill() error {
	for p.ctx.Err() == nil && p.missing() {
		s, err := p.make()
		if err != nil {
			return err
		}
		p.c.mu.Lock()
		p.ready = append(p.ready, s)
		p.c.mu.Unlock()
	}
	return nil
}

func (p *pool) missing() bool {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.c.phase == recovered && len(p.ready) < p.c.opts.Warm
}

func (p *pool) make() (*readySandbox, error) {
	c := p.c
	c.mu.Lock()
	l := c.networks[c.defaultNetworkID()]
	ep, err := c.reserve(l, EndpointRequest{})
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	ep.Interface = "eth0"
	ns, err := c.makeSandbox(p.ctx, []Endpoint{ep}, []*lan{l})
	if err != nil {
		c.mu.Lock()
		c.releaseEndpoints([]Endpoint{ep})
		c.mu.Unlock()
		return nil, err
	}
	return &readySandbox{ns, ep}, nil
}

// close ends the filling and gives up what is ready.
func (p *pool) close() error {
	p.stop()
	p.done.Wait()
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	var errs []error
	for _, s := range p.ready {
		errs = append(errs, s.ns.Close())
		p.c.releaseEndpoints([]Endpoint{s.endpoint})
	}
	p.ready = nil
	return errors.Join(errs...)
}
