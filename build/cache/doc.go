// Package cache remembers what steps of builds gave: records, found by keys, that name layers and
// content digests. They are kept in one journal of checksummed lines, loaded when the first build
// asks, appended to once a build, cut off at the first damaged line, rewritten when most of it is dead.
//
// Throwing the file away is always safe. The package knows nothing of layers but their digests.
package cache
