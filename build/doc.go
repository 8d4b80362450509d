// Package build turns a Dockerfile and a context into an image: the front end (build/frontend) makes a
// graph of it, the solver (build/solver) executes what the cache (build/cache) does not know, the
// session (build/session) brings files, secrets and credentials from whoever asked.
//
// It owns what is below its root: the cache's journal, what is known of contexts, cache mounts, and the
// directories of steps that are not layers yet. All of it may be thrown away at any time.
//
// It promises that an image it returns has all its layers in the store, that the same input gives the
// same image, and that nothing that a Dockerfile, an archive or a step names leads out of its root.
//
// It must not know of tags, containers, HTTP or registries: images come through an interface, and the
// result is a configuration and a list of diffIDs.
package build
