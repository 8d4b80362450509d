package container

import (
	"context"
	"sync"
	"time"

	"github.com/berth-engine/berth/internal/atomicfile"
)

// Container is a container that the engine knows. Its methods may be called from anywhere.
type Container struct {
	ID    string // doesn't change
	store *Store

	claim chan struct{} // holds one token while somebody makes a transition

	saving  sync.Mutex // held while the record is written; outside of mu
	mu      sync.Mutex // innermost: nothing else is locked, and nothing waited for, while it is held
	record  Record     // guarded by mu; Config doesn't change
	waiters []waiter   // guarded by mu
	gone    bool       // guarded by mu: there is nothing on the disk to be kept up to date
}

// Condition is what a waiter waits for.
type Condition string

// Docker's conditions (API, ContainerWait).
const (
	NotRunning Condition = "not-running"
	NextExit   Condition = "next-exit"
	Removed    Condition = "removed"
)

// Ended is what a waiter gets.
type Ended struct {
	ExitCode int
	Error    string
}

type waiter struct {
	condition Condition
	done      chan Ended // of capacity one
}

// New returns a Container for a record.
func New(store *Store, r Record) *Container {
	return &Container{ID: r.ID, store: store, claim: make(chan struct{}, 1), record: r}
}

// Claim waits until the caller alone may move the container between states. release may be called
// once.
func (c *Container) Claim(ctx context.Context) (release func(), err error) {
	select {
	case c.claim <- struct{}{}:
		return func() { <-c.claim }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Record returns a copy. Its Config is shared and not to be changed.
func (c *Container) Record() Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record
}

// State returns a copy of the state.
func (c *Container) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record.State
}

// Config returns what was asked for; it is not to be changed.
func (c *Container) Config() *Config { return &c.record.Config } // immutable: no lock

// Name returns the name.
func (c *Container) Name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record.Name
}

// Rename sets the name and makes it durable. The caller has the claim.
func (c *Container) Rename(name string) error {
	old := c.setName(name)
	if err := c.save(atomicfile.Durable, c.store.Save); err != nil {
		c.setName(old)
		return err
	}
	return nil
}

func (c *Container) setName(name string) (old string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, c.record.Name = c.record.Name, name
	return old
}

// Update changes the state, writes it, and wakes whoever waited for what it has become. The state
// counts even where it could not be written: the error is for the log.
func (c *Container) Update(d atomicfile.Durability, change func(*State)) error {
	c.turn(change)
	return c.save(d, c.store.SaveState)
}

// save writes the record as it is now, so that of two at once the later one is not overwritten, unless
// the container has been removed.
func (c *Container) save(d atomicfile.Durability, save func(*Record, atomicfile.Durability) error) error {
	c.saving.Lock()
	defer c.saving.Unlock()
	c.mu.Lock()
	r, gone := c.record, c.gone
	c.mu.Unlock()
	if gone {
		return nil
	}
	return save(&r, d)
}

// Pass is Update of a container that is removed when it ends: nothing is written. An engine that finds
// the record as it was while the container ran removes it, too.
func (c *Container) Pass(change func(*State)) { c.turn(change) }

func (c *Container) turn(change func(*State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.record.State.Status
	change(&c.record.State)
	c.wake(was)
}

// Discard removes the container's record and run-time directory, and moves its data to TRASH/ID; from
// here on nothing is written of it any more.
func (c *Container) Discard(trash string) error {
	c.saving.Lock()
	defer c.saving.Unlock()
	err := c.store.Discard(c.ID, trash)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = err == nil
	return err
}

// Note changes what is only looked at (health); it is not written.
func (c *Container) Note(change func(*State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.record.State)
}

// wake answers the waiters whose condition has come true. It needs mu held.
func (c *Container) wake(was Status) {
	now := c.record.State
	ended := was.Active() && !now.Status.Active()
	kept := c.waiters[:0]
	for _, w := range c.waiters {
		switch {
		case w.condition == NextExit && ended,
			w.condition == Removed && now.Status == Dead, // it could not be: nobody waits for that any longer
			w.condition == NotRunning && !now.Status.Active() && now.Status != Restarting:
			w.done <- Ended{now.ExitCode, now.Error}
		default:
			kept = append(kept, w)
		}
	}
	c.waiters = kept
}

// Wait registers a waiter: from here on the condition is not missed. The channel brings one value.
// cancel may be called at any time.
func (c *Container) Wait(condition Condition) (done <-chan Ended, cancel func()) {
	w := waiter{condition, make(chan Ended, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.record.State
	if condition == NotRunning && !now.Status.Active() && now.Status != Restarting {
		w.done <- Ended{now.ExitCode, now.Error}
		return w.done, func() {}
	}
	c.waiters = append(c.waiters, w)
	return w.done, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range c.waiters {
			if c.waiters[i].done == w.done {
				c.waiters = append(c.waiters[:i], c.waiters[i+1:]...)
				return
			}
		}
	}
}

// Gone tells every waiter that the container has been removed.
func (c *Container) Gone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.waiters {
		w.done <- Ended{ExitCode: c.record.State.ExitCode}
	}
	c.waiters = nil
}

// StopTimeout is how long a stop waits before it kills.
func (c *Config) StopTimeout() time.Duration {
	if t := c.Process.StopTimeout; t != nil {
		return time.Duration(*t) * time.Second
	}
	return 10 * time.Second
}
