package container

import (
	"time"
)

// Status is Docker's word for what a container is doing.
type Status string

// The states. A restarting container has ended and waits for its policy to start it again.
const (
	Created    Status = "created"
	Running    Status = "running"
	Paused     Status = "paused"
	Restarting Status = "restarting"
	Removing   Status = "removing"
	Exited     Status = "exited"
	Dead       Status = "dead"
)

// Active tells whether there is a process.
func (s Status) Active() bool { return s == Running || s == Paused }

// Leaving tells whether it is being removed, or was to be.
func (s Status) Leaving() bool { return s == Removing || s == Dead }

// State is what became of a container.
type State struct {
	Status     Status
	Pid        int       `json:",omitempty"` // for people to look at; never signalled
	ExitCode   int       // of the last end; 137 where the shim was lost
	Error      string    `json:",omitempty"` // why the last start failed
	OOMKilled  bool      `json:",omitempty"`
	StartedAt  time.Time // zero: never
	FinishedAt time.Time // zero: never
	// StoppedByUser is durable before the signal is sent: such a container is not started again by
	// its policy ("unless-stopped" not even by a new engine).
	StoppedByUser bool `json:",omitempty"`
	// Shutdown says that it was stopped because the machine goes down: for a new engine that is no user's wish.
	Shutdown     bool      `json:",omitempty"`
	RestartCount int       `json:",omitempty"` // by policy, since the last start by a user
	NextRestart  time.Time `json:",omitempty"`
	Health       *Health   `json:",omitempty"`
}

// Record is all that is kept of a container.
type Record struct {
	ID      string // 64 hexadecimal digits
	Name    string // without the slash
	Created time.Time
	Config  Config
	State   State
}
