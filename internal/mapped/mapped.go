// Package mapped is an entry point for programs that are started often and don't live long: link with
// -ldflags=-E=berth_mapped_entry. Before the Go runtime starts it has all of the program's own pages mapped, in two
// calls. One by one they are a hundred page faults and more, and in a virtual machine, where a fault is dear, a tenth of
// such a program's life.
//
// It promises nothing but speed: without it, and where the kernel can't do it (before Linux 5.14), the pages come one by
// one.
package mapped
