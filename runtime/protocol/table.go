package protocol

import (
	"fmt"

	"github.com/berth-engine/berth/internal/frame"
)

// Version is that of messages and record. A shim outlives the engine that started it; a newer engine looks at the
// version that State says.
const Version = 1

// Side is who sends.
type Side byte

// The two sides.
const (
	Engine Side = 'E'
	Shim   Side = 'S'
)

// Kind says what a message is.
type Kind = frame.Kind

// What the engine says, in lower case letters, and what the shim says, in upper case.
const (
	Descriptors Kind = 'd' // more descriptors for the Start or Exec that follows; no payload
	Prepare     Kind = 'p' // PrepareRequest: make a slot
	Start       Kind = 's' // StartRequest; descriptors in the order of Files
	Watch       Kind = 'w' // say when the container ends
	Attach      Kind = 'a' // AttachRequest: make this connection a stream
	Exec        Kind = 'x' // ExecRequest: run another process; this connection is its stream
	Signal      Kind = 'k' // SignalRequest; on a stream: for the process that Exec started
	Resize      Kind = 'z' // Size; on a stream: of its process's terminal
	Ask         Kind = 'q' // ask for the State
	Rootfs      Kind = 'r' // ask for a descriptor of the root directory
	Stdin       Kind = 'i' // bytes
	CloseStdin  Kind = 'c' // the end of stdin

	Ready   Kind = 'R' // the slot waits
	Started Kind = 'P' // StartedReply
	Failed  Kind = 'F' // Failure
	Done    Kind = 'D' // it was done; for Rootfs with a descriptor
	Status  Kind = 'Q' // State
	Stdout  Kind = 'O' // bytes
	Stderr  Kind = 'E' // bytes
	Slow    Kind = 'L' // this stream's reader was too slow, it is detached
	Exit    Kind = 'X' // ExitReport; on a stream: after the last byte
	Idle    Kind = 'I' // nothing is left of the container: the shim can keep another one
)

// Phase is how far a conversation is.
type Phase byte

// The phases.
const (
	Launched  Phase = iota // the launch connection, before anything was said
	Preparing              // a slot is being made
	Prepared               // it waits
	Starting               // a start was asked for
	Running                // the container runs; its exit will be said
	Ended                  // it was said: the shim may offer to keep another one
	Open                   // a dialled connection, before anything was asked or after it was answered
	Watching               // a dialled connection on which the exit will be said
	Asked                  // a question waits for its answer
	Attaching              // a stream was asked for
	Executing              // an exec was asked for
	Streaming              // stdin one way, output the other
	Over                   // nothing more is said
)

var phaseNames = [...]string{"launched", "preparing", "prepared", "starting", "running", "ended", "open", "watching", "asked", "attaching", "executing", "streaming", "over"}

func (p Phase) String() string { return phaseNames[p] }

// After returns the phase that follows when side says kind in phase p. The error says that it is out of order.
func After(p Phase, side Side, kind Kind) (Phase, error) {
	if next, ok := follow(p, side, kind); ok {
		return next, nil
	}
	return p, fmt.Errorf("shim protocol: message %q of side %c is out of order in phase %v", rune(kind), side, p)
}

// follow is the table.
func follow(p Phase, side Side, kind Kind) (Phase, bool) {
	type said struct {
		p    Phase
		side Side
		kind Kind
	}
	switch (said{p, side, kind}) {
	case said{Launched, Engine, Descriptors}, said{Prepared, Engine, Descriptors}, said{Open, Engine, Descriptors}:
		return p, true
	case said{Launched, Engine, Prepare}:
		return Preparing, true
	case said{Preparing, Shim, Ready}:
		return Prepared, true
	case said{Launched, Engine, Start}, said{Prepared, Engine, Start}:
		return Starting, true
	case said{Starting, Shim, Started}:
		return Running, true
	case said{Running, Shim, Exit}:
		return Ended, true
	case said{Ended, Shim, Idle}:
		return Launched, true
	case said{Preparing, Shim, Failed}, said{Starting, Shim, Failed}:
		return Over, true

	case said{Open, Engine, Signal}, said{Open, Engine, Resize}, said{Open, Engine, Ask}, said{Open, Engine, Rootfs}:
		return Asked, true
	case said{Asked, Shim, Done}, said{Asked, Shim, Failed}, said{Asked, Shim, Status}:
		return Open, true
	case said{Open, Engine, Watch}, said{Watching, Shim, Status}:
		return Watching, true
	case said{Watching, Shim, Exit}:
		return Over, true
	case said{Open, Engine, Attach}:
		return Attaching, true
	case said{Attaching, Shim, Done}:
		return Streaming, true
	case said{Open, Engine, Exec}:
		return Executing, true
	case said{Executing, Shim, Started}:
		return Streaming, true
	case said{Attaching, Shim, Failed}, said{Executing, Shim, Failed}:
		return Over, true

	case said{Streaming, Engine, Stdin}, said{Streaming, Engine, CloseStdin}, said{Streaming, Engine, Resize}, said{Streaming, Engine, Signal},
		said{Streaming, Shim, Stdout}, said{Streaming, Shim, Stderr}:
		return Streaming, true
	case said{Streaming, Shim, Slow}, said{Streaming, Shim, Exit}:
		return Over, true
	// The engine may not know yet that it is over.
	case said{Over, Engine, Stdin}, said{Over, Engine, CloseStdin}, said{Over, Engine, Resize}, said{Over, Engine, Signal}:
		return Over, true
	}
	return p, false
}
