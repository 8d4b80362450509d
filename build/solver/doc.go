// Package solver executes an LLB graph: it decodes the definition, looks every vertex up in the cache,
// and makes what is not there, in parallel where the graph allows it.
//
// It owns the directories of steps until they are layers, and the cache mounts. A result is a list of
// layers, bottom first, of which the topmost may still be a directory that is being turned into a
// layer file while the next steps already stand on it.
//
// It promises that equal steps of concurrent builds run once, that a step is cancelled only when the
// last build that waits for it has gone, and that nothing is written outside a step's own tree.
//
// It must not know what a Dockerfile is, nor image configurations, nor where contexts come from.
package solver
