// Package inflate decompresses gzip on all cores.
//
// It owns the decoder of DEFLATE (RFC 1951) and gzip (RFC 1952), and the way to decode one stream in
// several places at once (after rapidgzip: a worker begins at a block that it guesses, writes markers for
// what it refers to before its beginning, and these are resolved when the chunk before is known). It
// promises the bytes that compress/gzip gives, every member's CRC-32 and length checked, a bounded
// memory, and one clear error for damage. It must not know of blobs, layers or files.
package inflate
