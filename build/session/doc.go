// Package session is what `berth build` and the engine say to each other about files: the engine asks
// for the list of a local source, gets it in one binary piece, asks for the contents that it lacks, and
// gets those bytes; secrets and registry credentials are asked for by the same way. The frames pass
// over the build's one connection (api/wire), kinds 10 to 39 from the command line, 74 to 99 from the
// engine.
//
// This package holds the wire form only; build/session/client is the command line's half and
// build/session/server the engine's. Neither client nor wire form links anything heavy.
package session
