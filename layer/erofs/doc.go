// Package erofs makes layer files: EROFS images with a layer's tar inside, byte by byte as it came.
//
//	0         4 KiB                            4 KiB + tar size          size
//	| header, | the tar, verbatim (its sha256  | inodes, xattrs,          |
//	| super-  | is the layer's diffID), padded | directories, what can't  |
//	| block   | to 512 bytes                   | be pointed at            |
//
// It owns the way from a tar stream to such a file: what a tar may say and what is refused, where each
// byte of metadata lies, and how a file is checked and repaired. It promises that the same tar gives
// the same file (Version says by which rules), that the kernel of 6.1 and later reads it, that memory
// and metadata are bounded by Limits whatever the tar says, and that no attribute of overlayfs comes in
// from outside. It must not know where layer files are kept, how they are mounted or what lies below a
// layer: what only a stack of layers can decide is handed over in Result (Implied, Opaque, LowerLinks).
package erofs
