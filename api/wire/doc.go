// Package wire holds what Berth's own command line and engine say to each other beyond Docker's
// Engine API: the frames of `berth run` and `berth build`, and the JSON in them. Both sides link it,
// so it imports nothing that costs start-up time.
//
// A request is an ordinary HTTP POST with `Connection: Upgrade` and `Upgrade: berth`; the answer is
// 101 and from then on the connection carries frames (internal/frame), or an ordinary error status
// with Docker's {"message": …}. Kinds below 64 go from the command line to the engine, the others
// from the engine to the command line. A side that gets a kind it doesn't know ends the connection.
package wire
