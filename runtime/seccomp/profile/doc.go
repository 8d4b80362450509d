// Package profile gives the seccomp configuration of a container: Docker's default profile, resolved for
// the container's capabilities, the architecture and the running kernel, or a profile from a JSON document
// in Docker's format (`--security-opt seccomp=FILE`).
//
// It owns no policy: the default is github.com/moby/profiles. It promises that what it returns can be given
// to seccomp.Compile and written into an OCI configuration. It must not know containers.
//
// It is apart from package seccomp so that berth-runtime, which only compiles, does not link the profile.
package profile
