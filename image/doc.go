// Package image owns the records of images and the names that point at them.
//
// An image is its config, the ordered layers that the config names by diffID, and the manifests under
// which registries know it. Its ID is the digest of its config. Records are immutable; a tag is a
// name that can be pointed elsewhere. One small checksummed file holds a record or a name, replaced
// atomically: a damaged one is set aside and named, and takes nothing else along.
//
// Promises: what can be named here was complete and durable before it could be named. The room knows
// nothing of registries, mounts or containers; the bytes of configs and manifests are blobs in
// content, layers are the business of package layer.
package image
