// Package registry is the client of the OCI distribution protocol: it finds images by reference,
// fetches them (Pull) and stores them (Push), and checks a login.
//
// A registry keeps blobs, named by the digest of their bytes, and manifests, which name a config blob
// and layer blobs. An index names manifests, one for each platform. A tag is a name that points at a
// manifest or an index, and may point elsewhere tomorrow; a digest can't.
//
// The package promises that every byte that it hands on has been compared with its digest, that
// credentials reach only the registry that they are for and the token server that it names, that
// plain HTTP is spoken only to this machine and to hosts named as insecure, and that what is pushed
// has the digest that it was given with.
//
// It owns no storage: what is fetched goes into a Target as it streams, what is pushed comes out of a
// Source. It reads no user's file: credentials come from a function. It knows nothing of containers,
// tags on this machine, or the Engine API.
package registry
