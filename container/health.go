package container

import (
	"context"
	"time"
)

// Docker's words for health, and its figures (moby, daemon/health.go).
const (
	Starting  = "starting"
	Healthy   = "healthy"
	Unhealthy = "unhealthy"

	defaultProbe         = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultRetries       = 3
	probesKept           = 5
	// ProbeOutputMax is how much of a probe's output is kept, in bytes.
	ProbeOutputMax = 4096
)

// Health is what the probes said.
type Health struct {
	Status        string // Starting, Healthy, Unhealthy
	FailingStreak int
	Log           []Probe // the last five, oldest first
}

// Probe is one look at the container.
type Probe struct {
	Start, End time.Time
	ExitCode   int // 0 healthy, else not; -1: it could not be run or took too long
	Output     string
}

// Enabled tells whether there is something to run.
func (h *Healthcheck) Enabled() bool {
	return h != nil && len(h.Test) > 0 && h.Test[0] != "NONE"
}

// Command is the command line of a probe; shell is the image's.
func (h *Healthcheck) Command(shell []string) []string {
	switch h.Test[0] {
	case "CMD":
		return h.Test[1:]
	case "CMD-SHELL":
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(append([]string(nil), shell...), h.Test[1:]...)
	}
	return h.Test
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// ProbeTimeout is how long a probe may take.
func (h *Healthcheck) ProbeTimeout() time.Duration { return or(h.Timeout, defaultProbe) }

// After returns what health becomes after a probe, at a time since the container's start. It does not
// change the one that it is called on.
func (h *Healthcheck) After(was Health, p Probe, sinceStart time.Duration) Health {
	now := Health{Status: was.Status, FailingStreak: was.FailingStreak}
	now.Log = append(append(now.Log, was.Log...), p)
	if extra := len(now.Log) - probesKept; extra > 0 {
		now.Log = now.Log[extra:]
	}
	retries := h.Retries
	if retries <= 0 {
		retries = defaultRetries
	}
	switch {
	case p.ExitCode == 0:
		now.Status, now.FailingStreak = Healthy, 0
	case was.Status == Starting && sinceStart < h.StartPeriod:
		// failures in the start period don't count
	default:
		now.FailingStreak++
		if now.FailingStreak >= retries {
			now.Status = Unhealthy
		}
	}
	return now
}

// Wait is how long to wait for the next probe.
func (h *Healthcheck) Wait(now Health, sinceStart time.Duration) time.Duration {
	if now.Status == Starting && h.StartPeriod > 0 && sinceStart < h.StartPeriod {
		return min(or(h.StartInterval, defaultStartInterval), or(h.Interval, defaultProbe))
	}
	return or(h.Interval, defaultProbe)
}

// Watch runs probes until ctx ends, from what health was. probe runs one, and must end with its context;
// changed is told each new state. What a probe says that ctx ended doesn't count.
func (h *Healthcheck) Watch(ctx context.Context, health Health, started time.Time, probe func(context.Context) Probe, changed func(Health)) {
	timer := time.NewTimer(h.Wait(health, time.Since(started)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		within, cancel := context.WithTimeout(ctx, h.ProbeTimeout())
		p := probe(within)
		cancel()
		if ctx.Err() != nil {
			return
		}
		health = h.After(health, p, time.Since(started))
		changed(health)
		timer.Reset(h.Wait(health, time.Since(started)))
	}
}
