package wire

import "github.com/berth-engine/berth/internal/frame"

// BuildPath is where `berth build` goes.
const BuildPath = "/berth/v1/build"

// Frames of a build, from the command line. Kinds 10 to 39 and 74 to 99 belong to the context
// protocol (build/session) and pass through.
const (
	BuildRequestFrame frame.Kind = 1 // BuildRequest; the first frame
	BuildCancel       frame.Kind = 2 // empty
)

// Frames of a build, from the engine. Exit is the last frame.
const (
	BuildProgress frame.Kind = 64 // BuildEvent
	BuildExit     frame.Kind = 69 // BuildExitBody
)

// BuildRequest says what to build; the context, secrets and credentials are asked for by the engine.
type BuildRequest struct {
	Dockerfile   string            `json:",omitempty"` // path inside the source named "dockerfile"; default "Dockerfile"
	Tags         []string          `json:",omitempty"`
	Target       string            `json:",omitempty"`
	BuildArgs    map[string]string `json:",omitempty"`
	Labels       map[string]string `json:",omitempty"`
	Platform     string            `json:",omitempty"`
	NoCache      bool              `json:",omitempty"`
	Pull         bool              `json:",omitempty"`
	Network      string            `json:",omitempty"`
	ExtraHosts   []string          `json:",omitempty"` // "host:ip"
	ShmSize      int64             `json:",omitempty"` // bytes
	Ulimits      []string          `json:",omitempty"` // "name=soft:hard"
	CgroupParent string            `json:",omitempty"`
	Contexts     map[string]string `json:",omitempty"` // named contexts, as BuildKit's option "context:NAME" has them
	Sources      map[string]string `json:",omitempty"` // local sources by name ("context", "dockerfile", …): an id of client and root, for what the engine remembers
	Secrets      []string          `json:",omitempty"` // ids that the command line has
}

// BuildEvent is one thing that happened. A vertex is named by its digest.
type BuildEvent struct {
	Vertex         string `json:",omitempty"`
	Kind           string // "started", "cached", "done", "failed", "log", "status", "warning"
	Name           string `json:",omitempty"` // of the vertex, with "started" and "cached"; of the status
	Data           []byte `json:",omitempty"` // of a log
	Stream         int    `json:",omitempty"` // of a log: 1 or 2
	Text           string `json:",omitempty"` // of an error or a warning
	Current, Total int64  `json:",omitempty"` // of a status, bytes
	Time           int64  // nanoseconds since 1970
}

// BuildExitBody ends a build: an image, or one sentence.
type BuildExitBody struct {
	ImageID string `json:",omitempty"`
	Error   string `json:",omitempty"`
}
