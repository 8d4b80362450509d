// Package engine is what the rooms do together: the use cases that need several nouns (run, commit,
// pull, build, prune), and the composition root that opens every room in order.
//
// One Engine owns a data root and an exec root. It promises that what it acknowledged survives it:
// containers run on without it and are found again (recover.go), and nothing is deleted that anything
// still names (garbage.go). A container's life reads in order in create.go, start.go, end.go,
// remove.go; each acquires in steps, and the one Destroy of remove.go gives everything back, after a
// failure as after a kill -9.
//
// It knows nothing of HTTP or of Docker's JSON: package api translates.
package engine
