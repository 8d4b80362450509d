// Package cli is the command line `berth`: commands, a file each, with Docker's names, flags, columns
// and exit codes.
//
// It owns: what a user types and reads. Flags become requests of Docker's Engine API (package client)
// or the first frame of Berth's own `run` and `build` (api/wire); answers become tables, JSON or what
// a Go template makes of them (package format); package create turns the flags of run and create into
// their request; package terminal knows raw mode, sizes and detach keys; package progress shows long
// work.
//
// It promises: start-up in a millisecond or two. Only the command that was asked for gets its flags;
// nothing is linked that costs time before main (TestLinked); a flag of Docker's either works or is
// refused with a sentence (unsupported.go). stdout is the answer, stderr is the talk.
//
// It must not know: anything of the engine beyond its API.
package cli
