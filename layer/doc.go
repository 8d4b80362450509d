// Package layer keeps layers and makes file systems of them.
//
// It owns the layer files below its root (package erofs writes them), a small record with a checksum
// for each, the one mount of each layer below its exec root, the overlay mounts that stack layers,
// and the writable directories (uppers) on top: their differences and the tars made of them.
//
// It promises: a layer that can be named by its diffID has been verified and is durable; its
// metadata is verified again before it is mounted; it is mounted once, however many stacks use it
// and however often the engine restarts; what a killed engine left half-made is gone after Open.
//
// The same tree comes of every storage form (mounted from the file, through a loop device, unpacked):
// what differs is speed, memory and disk, and Info says which is in use.
//
// It must not know: images, manifests, compression, registries, containers, who uses a layer and why.
// It deletes no layer by itself.
package layer
