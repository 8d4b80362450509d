// Package server is the engine's half of a build's session: it keeps contents of contexts by digest,
// remembers which client's file had which (so that an unchanged one is not sent again), and gives the
// solver trees.
//
// A tree comes from a client at the other end of a connection, or from a tar stream. The engine never
// opens a path that a client names: names are only names in a list.
package server
