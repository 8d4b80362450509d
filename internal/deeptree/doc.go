// Package deeptree deletes and measures trees that a container may have made: of any depth and width,
// deeper than a path is long and than a process may have descriptors, and possibly changing meanwhile.
//
// It goes from directory to directory relative to open descriptors, of which it keeps a few; what lies
// deeper is left again through "..", and only if that is still the directory that it came from. No link
// is followed and no mount entered. Memory grows with the depth only (and, for Size, with the number of
// files that have several names).
//
// It knows nothing of what the trees are for.
package deeptree
