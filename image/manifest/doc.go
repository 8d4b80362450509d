// Package manifest reads the documents that describe images: OCI and Docker v2 manifests and indexes,
// and image configs. They come from registries and archives, so from anybody: what is ambiguous, old
// or too large is refused with a sentence, and every digest in what is returned is well-formed.
//
// It only reads bytes that it is given; it fetches nothing and stores nothing.
package manifest
