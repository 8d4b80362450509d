package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
)

// Controller is the network of one engine. Its methods may be called from several goroutines.
type Controller struct {
	opts    Options
	log     *slog.Logger
	names   names
	records string // directory of the networks' records
	state   string // directory of what is attached now
	host    *host
	fw      *firewall

	// Locks are taken in this order: attachment.op, binding, lan.up, forwarding.mu, mu,
	// firewall.others, firewall.mu.
	binding  sync.Mutex
	mu       sync.Mutex
	networks map[string]*lan        // by id; guarded by mu
	attached map[string]*attachment // by container id; guarded by mu
	claims   portClaims             // guarded by mu
	phase    phase                  // guarded by mu
	calls    sync.WaitGroup         // methods at work; added to with mu held

	forward forwarding
	ready   *pool
	watch   watch
	notices *notices
	chores  sync.WaitGroup // what nobody waits for but Close

	unguarded sync.Once // says that guardLoopback failed
}

// phase is how far a Controller's life has come.
type phase int

const (
	opened phase = iota
	recovered
	closed
)

// Open reads what is recorded and changes nothing on the host. Recover must follow, once, before
// anything is attached. Errors: a root that can't be used; a name that is too long.
func Open(ctx context.Context, opts Options) (_ *Controller, err error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	c := &Controller{
		opts:     opts,
		log:      opts.Log,
		records:  filepath.Join(opts.Root, "networks"),
		state:    filepath.Join(opts.ExecRoot, "network"),
		networks: map[string]*lan{},
		attached: map[string]*attachment{},
		claims:   portClaims{},
	}
	c.forward.path = filepath.Join(c.state, "forwarding")
	if c.names, err = namesFor(opts); err != nil {
		return nil, err
	}
	for _, dir := range []string{c.records, c.containersDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if c.host, err = openHost(); err != nil {
		return nil, err
	}
	c.fw = newFirewall(c.names)
	if err := c.loadNetworks(); err != nil {
		return nil, errors.Join(err, c.fw.close(), c.host.close())
	}
	c.ready = newPool(c)
	c.notices = newNotices(opts.NamesChanged)
	return c, nil
}

// begin lets a method that changes something work until it calls end; Close waits for it.
func (c *Controller) begin() (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.phase {
	case opened:
		return nil, fmt.Errorf("the network is not recovered yet: %w", errdefs.ErrUnavailable)
	case closed:
		return nil, fmt.Errorf("the network is closed: %w", errdefs.ErrUnavailable)
	}
	c.calls.Add(1)
	return c.calls.Done, nil
}

// Recover takes over what the engine before this one left: the live containers keep their addresses
// and ports, everything else that it made is removed from the host. Then sandboxes are made ahead in
// the background.
func (c *Controller) Recover(ctx context.Context, live []Live) error {
	if err := c.takeOver(live); err != nil {
		return fmt.Errorf("recover the network: %w", err)
	}
	c.mu.Lock()
	c.phase = recovered
	c.mu.Unlock()
	c.ready.start()
	if err := c.watch.start(c); err != nil {
		c.log.Warn("rules that others flush can't be written again", "error", err)
	}
	return nil
}

// Close gives the sandboxes that were made ahead back, and everything on the host that no attached
// container needs; with none attached the host is as Open found it. Containers that still run keep
// their network, for the next Recover. Calls that are under way end first; those that come later fail.
func (c *Controller) Close(ctx context.Context) error {
	c.mu.Lock()
	was := c.phase
	c.phase = closed
	c.mu.Unlock()
	if was == closed {
		return nil
	}
	c.calls.Wait()
	c.watch.close()
	err := c.ready.close()
	c.notices.close()
	c.chores.Wait()
	if was == recovered {
		err = errors.Join(err, c.giveBack())
	}
	return errors.Join(err, c.fw.close(), c.host.close())
}
