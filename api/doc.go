// Package api serves Docker's Engine API, and Berth's own few additions below /berth, over HTTP.
//
// It translates: paths, queries and JSON to the engine's calls and back, kinds of errors to status
// codes, streams to hijacked connections. Docker's wire types stop here. A client says which version
// it speaks (/v1.41/…) and gets that version's fields; without one it gets the newest.
//
// It keeps no state, and decides nothing about containers and images.
package api
