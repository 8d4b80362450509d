// Package compile turns an OCI configuration (runtime-spec 1.3) into a start script, and a process
// configuration into an exec script.
//
// It owns the order of a start: which namespace is entered when, how mounts are made and where they may
// land, what is dropped before what. Each order that is not obvious says beside it which kernel rule or
// which attack makes it so. It promises that nothing of a container's own files decides where a mount
// lands outside of its root, and that a configuration compiles to the same script everywhere.
// It must not know who asks (shim, OCI command line, build step), read files of a container, or start
// anything but the one child.
//
// A start has two halves. The first depends on little (namespaces, cgroup, /proc, /dev, /sys) and can be
// played before anyone knows what will run (Prepare: a slot); the second takes the rootfs and the mounts as
// descriptors and ends in execve (Plan.Finish). Start writes both at once.
package compile
