// Package runtime is the engine's side of running containers: it starts one shim per container
// (berth-runtime, package runtime/shim), talks to it over a unix socket in the container's run-time
// directory, and finds it again after a restart of the engine. A shim whose container has ended becomes
// the next slot where one is missing (idle.go): its start is saved, and its memory is warm.
//
// It owns: the shim processes while they start, warm slots, and what a container leaves when its shim
// was lost. It promises: a container and its output never depend on the engine's life; nothing that the
// container wrote is lost between shim and log; exit comes after the last byte; a start that failed
// says which step failed, on what and with which errno (StartError) and leaves nothing behind.
//
// It must not know: images, layers, networks, names, Docker's API. Root file systems and mounts arrive
// as descriptors of detached mounts, network namespaces and listening sockets as descriptors, and the
// process as an OCI runtime specification.
package runtime
