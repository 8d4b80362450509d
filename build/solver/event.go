package solver

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// EventKind says what happened.
type EventKind string

// A vertex has one Started and then one of Cached, Done, Failed and Cancelled; between them Log and
// Status. Cached may come without Started. Warning belongs to no vertex.
const (
	Started   EventKind = "started"
	Cached    EventKind = "cached"
	Done      EventKind = "done"
	Failed    EventKind = "failed"
	Cancelled EventKind = "cancelled"
	Log       EventKind = "log"
	Status    EventKind = "status"
	Warning   EventKind = "warning"
)

// Event is one thing that happened in a build.
type Event struct {
	Kind   EventKind
	Vertex digest.Digest // "" for a Warning
	Time   time.Time

	// Name is of the vertex ("[build 2/5] RUN make") with Started, Cached, Done and Failed; of what is
	// going on ("transferring context") with Status.
	Name string

	Stream int    // Log: 1 is stdout, 2 stderr
	Data   []byte // Log; not to be changed

	Current, Total int64 // Status: bytes; Total is 0 where it is not known

	Text   string // Failed: the sentence; Warning: the sentence
	Detail string // Warning: what it means, or ""
	URL    string // Warning: where to read more, or ""
	File   string // Warning, Failed: the Dockerfile's name, or ""
	Line   int    // Warning, Failed: its line, from 1; 0 if unknown
}
