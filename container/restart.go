package container

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// RestartPolicy says when a container that ended is started again.
type RestartPolicy struct {
	Name       string // "no" (or ""), "always", "unless-stopped", "on-failure"
	MaxRetries int    `json:",omitempty"` // of on-failure; 0: without end
}

// Docker's figures: the delay doubles from 100 ms to a minute, and begins anew after a run of ten
// seconds (moby, restartmanager).
const (
	firstDelay  = 100 * time.Millisecond
	longestWait = time.Minute
	goodRun     = 10 * time.Second
)

// Check refuses a policy that does not exist, in Docker's words.
func (p RestartPolicy) Check() error {
	switch p.Name {
	case "", "no", "always", "unless-stopped":
		if p.MaxRetries != 0 {
			return fmt.Errorf("invalid restart policy: maximum retry count can only be used with 'on-failure': %w", errdefs.ErrInvalidArgument)
		}
	case "on-failure":
		if p.MaxRetries < 0 {
			return fmt.Errorf("invalid restart policy: maximum retry count cannot be negative: %w", errdefs.ErrInvalidArgument)
		}
	default:
		return fmt.Errorf("invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped': %w", p.Name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Next says whether a container in state s, which has just ended after ran, is started again, and
// after what delay; last is the delay of the restart before (0: none).
func (p RestartPolicy) Next(s State, ran, last time.Duration) (delay time.Duration, again bool) {
	if s.StoppedByUser {
		return 0, false
	}
	switch p.Name {
	case "always", "unless-stopped":
	case "on-failure":
		if s.ExitCode == 0 || p.MaxRetries > 0 && s.RestartCount >= p.MaxRetries {
			return 0, false
		}
	default:
		return 0, false
	}
	if last == 0 || ran >= goodRun {
		return firstDelay, true
	}
	return min(2*last, longestWait), true
}

// AtEngineStart says whether a container that is not running is started by a new engine. Docker
// starts "always" ones even where a user had stopped them.
func (p RestartPolicy) AtEngineStart(s State) bool {
	stopped := s.StoppedByUser && !s.Shutdown
	switch p.Name {
	case "always":
		return !s.StartedAt.IsZero()
	case "unless-stopped":
		return !stopped && !s.StartedAt.IsZero()
	case "on-failure":
		return !stopped && s.ExitCode != 0 && !s.StartedAt.IsZero()
	}
	return false
}
