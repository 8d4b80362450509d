// Package archive reads and writes images as tar files: those of `docker save` (with a manifest.json),
// and OCI image layouts (oci-layout, index.json, blobs/). What Write makes is both at once, as current
// Docker makes it.
//
// An archive is read as it streams, in whatever order its entries come: layers go into the Target as
// they pass, small documents are kept in memory up to a limit, and at the end everything is compared:
// blobs with their digests, layers with the diffIDs of the config. Entry names are only compared with
// each other and never used as paths of this machine.
package archive
