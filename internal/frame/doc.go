// Package frame cuts a byte stream into frames: one byte that says what a frame is, four bytes of
// length (big endian), the payload.
//
// Every connection of Berth's own is made of them: engine and shim, `berth run`, `berth build`.
// What the kinds mean is the business of the packages that talk; this one knows only where a frame
// begins and ends, and refuses lengths that nobody meant.
package frame
