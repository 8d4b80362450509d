// Package content keeps blobs: bytes named by their digest.
//
// It owns the files below its root (blobs/sha256/HEX, and what is being written below incoming/), and the
// recognition of compressions. It promises that a blob that can be named has been verified and is
// durable, and that what was not finished is never seen and is swept when the store is opened. It must not know
// what a blob means, who refers to it, or where it came from: deleting is the caller's decision.
package content
