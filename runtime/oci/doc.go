// Package oci is the command line of an OCI runtime: create, start, state, kill, delete, exec, run and what
// podman, containerd and people use beside them.
//
// It owns the flags, the directory of a container (below --root), the hooks that run outside of the container,
// the log that its caller reads, and the exit statuses. It promises that a command that fails leaves nothing
// behind, that Destroy removes whatever of a container is there however far its making got, and that a pid is
// never signalled without being sure whose it is.
// It must not know how a container is made (runtime/compile does), nor anything of images, networks or the
// engine: the engine's containers are kept by runtime/shim.
package oci
