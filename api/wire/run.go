package wire

import (
	"encoding/json"

	"github.com/berth-engine/berth/internal/frame"
)

// RunPath is where `berth run` goes.
const RunPath = "/berth/v1/run"

// Frames of a run, from the command line.
const (
	RunRequestFrame frame.Kind = 1 // RunRequest; the first frame
	RunStdin        frame.Kind = 2 // bytes
	RunStdinEnd     frame.Kind = 3 // empty: the process sees end of file
	RunResize       frame.Kind = 4 // Size
	RunSignal       frame.Kind = 5 // Signal
	RunDetach       frame.Kind = 6 // empty: the command line goes, the container stays
)

// Frames of a run, from the engine. The order is: Progress* Created Started (Stdout | Stderr)* Exit, or
// an Exit with an Error at any point. Exit is the last frame.
const (
	RunProgress frame.Kind = 64 // one line of Docker's JSON progress (a pull)
	RunCreated  frame.Kind = 65 // RunCreatedBody
	RunStarted  frame.Kind = 66 // empty
	RunStdout   frame.Kind = 67 // bytes (with a terminal: everything)
	RunStderr   frame.Kind = 68 // bytes
	RunExit     frame.Kind = 69 // RunExitBody
)

// RunRequest is create, attach, start and wait in one. Create is the body of Docker's
// POST /containers/create, kept raw so that the command line builds it as for that request.
type RunRequest struct {
	Create   json.RawMessage
	Name     string `json:",omitempty"`
	Platform string `json:",omitempty"`
	Pull     string `json:",omitempty"` // "always", "missing" (default), "never"
	Auth     string `json:",omitempty"` // X-Registry-Auth's base64, for a pull

	Stdin  bool `json:",omitempty"` // stdin frames will come
	Stdout bool `json:",omitempty"`
	Stderr bool `json:",omitempty"`
	Detach bool `json:",omitempty"` // exit frame comes right after Started, without a code

	Size *Size `json:",omitempty"` // of the terminal, before the start
}

// Size of a terminal, in characters.
type Size struct{ Height, Width uint16 }

// Signal to pass on, as a number of this platform.
type Signal struct{ Number int }

// RunCreatedBody names the container.
type RunCreatedBody struct {
	ID       string
	Warnings []string `json:",omitempty"`
}

// RunExitBody ends a run. Error is set where the engine failed (Code is then 125, 126 or 127, as
// `docker run` exits); it is one sentence.
type RunExitBody struct {
	Code  int
	Error string `json:",omitempty"`
	// ImageMissing says that the image is not here and Pull was "never". The command line asks with
	// "never" first, so that neither config.json nor a credential helper is on the way of a run of a
	// local image, and then once more with the user's policy and Auth.
	ImageMissing bool `json:",omitempty"`
}
