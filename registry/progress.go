package registry

import "github.com/opencontainers/go-digest"

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

// Event is one step of one layer or config blob. Downloading and Uploading come at most ten times a
// second for a blob.
type Event struct {
	Stage          Stage
	Digest         digest.Digest // of the blob as the registry has it
	Current, Total int64         // bytes
	From           string        // Mounted: the other repository
}
