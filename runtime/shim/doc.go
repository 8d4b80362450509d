// Package shim is the process that owns one container: berth-runtime, started by the engine. When its container has
// ended and everything of it is given back, it can keep another one; never two at a time.
//
// It owns the container's first process and those that were added (exec), their stdio, the log, the exit record, the
// cgroup's leftovers, and the sockets of published ports. It promises: the death of the engine changes nothing for
// the container; what the container wrote is logged and delivered before its exit is reported; a reader that is gone
// never holds the container up, and one that is slow only as long as it is there; a signal never goes to a pid that
// is another process's by now; namespaces are held open until the exit was reported, because the kernel takes them
// down before it tells a parent.
//
// It must not know images, networks, names, or the engine's API. It is small on purpose (its memory is paid once a
// container): no package net, no blocked threads, buffers only while there is something in them.
//
// The files, in the order of a container's life: shim.go (the process), launch.go (from request to running program),
// become_unsafe.go (what tells one container's shim from another's), stdio.go (pipes and terminals), attach.go (who
// reads along), serve.go (requests), exec.go, proxy.go (published ports), end.go (from exit to report).
package shim
