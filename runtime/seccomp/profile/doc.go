// Package profile gives the seccomp configuration of a container: Docker's default profile, resolved for
// the container's capabilities, the architecture and the running kernel, or a profile from a JSON file
// in Docker's format (--security-opt seccomp=FILE).
package profile
