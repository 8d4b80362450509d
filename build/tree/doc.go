// Package tree holds the files of local sources: a list of names, and contents kept by digest.
//
// It owns the directory of contents. A content that can be named has been hashed while it was written;
// none is synced: after a machine that stopped uncleanly everything is thrown away, which is always
// safe. It must not know where a tree came from.
package tree
