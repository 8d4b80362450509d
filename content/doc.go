// Package content keeps blobs: bytes named by their digest.
//
// It owns the files below its root (blobs/sha256/HEX, and what is being written below incoming/), and the
// recognition of compressions. It promises that a blob that can be named has been verified and is
// durable, that what was not finished is never seen and is swept when the store is opened, and that a
// download that broke off can go on where it stopped. It must not know what a blob means, who refers to
// it, or where it came from: deleting is the caller's decision.
package content
