package registry

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Stage is where a blob is on its way. In a pull a layer goes Waiting, Downloading (again and again),
// Verified, Extracting, Done; or Exists at once. In a push a blob goes Waiting, Uploading (again and
// again), Done; or Exists; or Mounted.
type Stage uint8

// The stages.
const (
	Waiting     Stage = iota + 1
	Downloading       // Current of Total bytes have arrived
	Retrying          // the connection was lost and is made again; Current bytes have arrived
	Verified          // all bytes are here and have their digest
	Extracting        // the Target works on the rest of what it has
	Uploading         // Current of Total bytes have been sent
	Mounted           // the registry shares the blob from repository From
	Exists            // it was there already
	Done
)

var stageNames = [...]string{"", "waiting", "downloading", "retrying", "verified", "extracting", "uploading", "mounted", "exists", "done"}

func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return "unknown"
}

// Event is one step of one layer or config blob. Downloading and Uploading come at most ten times a
// second for a blob.
type Event struct {
	Stage          Stage
	Digest         digest.Digest // of the blob as the registry has it
	Current, Total int64         // bytes
	From           string        // Mounted: the other repository
}

const eventInterval = 100 * time.Millisecond

// reporter passes events on, one at a time.
type reporter struct {
	mu   sync.Mutex
	tell func(Event) // guarded by mu; may be nil
}

func (r *reporter) report(e Event) {
	if r.tell == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell(e)
}

// meter reports how a blob moves. It is used by one goroutine at a time.
type meter struct {
	to    *reporter
	stage Stage
	blob  digest.Digest
	total int64
	last  time.Time
	now   func() time.Time
}

func (m *meter) at(current int64) {
	if m == nil || m.to.tell == nil {
		return
	}
	if now := m.now(); now.Sub(m.last) >= eventInterval {
		m.last = now
		m.to.report(Event{Stage: m.stage, Digest: m.blob, Current: current, Total: m.total})
	}
}

func (m *meter) say(stage Stage, current int64) {
	if m != nil {
		m.to.report(Event{Stage: stage, Digest: m.blob, Current: current, Total: m.total})
	}
}
