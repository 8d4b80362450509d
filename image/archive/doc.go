// Package archive reads and writes images as tar files: those of `docker save` (with a manifest.json),
// and OCI image layouts (oci-layout, index.json, blobs/). What Write makes is both at once, as current
// Docker makes it.
//
// An archive is read as it streams, in whatever order its entries come: layers go into the Target as
// they pass, documents into a file without a name, and at the end everything is compared: blobs with
// the digests in their names, layers with the diffIDs of the config that lists them. Nothing is ever
// unpacked; the names of entries are only compared with each other, and never used as paths of this
// machine.
//
// The package knows nothing of tags on this machine, registries or containers. Who calls it gives the
// images their names, once Read has returned.
package archive
