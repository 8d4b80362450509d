package runtime

import (
	"context"
	"time"
)

// OpenListener is how the process behind a socket is opened where the kernel gives no pidfd of it.
var OpenListener = openListener

// IsAbsent tells whether an error says that there is no shim.
var IsAbsent = isAbsent

// SetPatience changes how long the launcher waits for what does not answer.
func (l *Launcher) SetPatience(d time.Duration) { l.patience = d }

// SetScarce replaces the look at the machine's memory, and has the slots looked at.
func (l *Launcher) SetScarce(scarce bool) {
	l.change(func() { l.scarce = func() bool { return scarce } })
}

// SetBusy replaces Options.Busy.
func (l *Launcher) SetBusy(busy func() bool) {
	l.change(func() { l.opts.Busy = busy })
}

// SetAgain changes after how long a slot that could not be made is tried again.
func (l *Launcher) SetAgain(d time.Duration) {
	l.change(func() { l.again = d })
}

// Nudged tells whether what is done while nobody keeps the slots has them looked at.
func (l *Launcher) Nudged(do func()) (nudged bool) {
	l.change(func() {
		select {
		case <-l.slots.wake: // of before
		default:
		}
		do()
		nudged = len(l.slots.wake) > 0
	})
	return nudged
}

// Idle returns how many shims are idle.
func (l *Launcher) Idle() int {
	l.slots.mu.Lock()
	defer l.slots.mu.Unlock()
	return len(l.slots.idle)
}

// Failed returns how many slots of today's model could not be made, one after the other.
func (l *Launcher) Failed() int {
	l.slots.mu.Lock()
	defer l.slots.mu.Unlock()
	if l.slots.model == nil {
		return 0
	}
	return l.slots.model.failed
}

// BreakIdle makes nothing that is said to idle shims arrive. It returns how many there are.
func (l *Launcher) BreakIdle() int {
	l.slots.mu.Lock()
	defer l.slots.mu.Unlock()
	for _, p := range l.slots.idle {
		_ = p.conn.File().SetDeadline(past)
	}
	return len(l.slots.idle)
}

// change does something while nobody keeps the slots.
func (l *Launcher) change(do func()) {
	l.slots.cancel()
	<-l.slots.done
	do()
	var ctx context.Context
	ctx, l.slots.cancel = context.WithCancel(l.ctx)
	done := make(chan struct{})
	l.slots.done = done
	go func() {
		defer close(done)
		l.keepSlots(ctx)
	}()
}

// DupAbove is for tests.
var DupAbove = dupAbove
