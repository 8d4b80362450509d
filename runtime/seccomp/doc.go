// Package seccomp compiles the seccomp section of an OCI runtime configuration to a BPF program for
// seccomp(2), without cgo and libseccomp, with libseccomp's meaning.
//
// It owns the tables of system call numbers (x86-64, x32, i386, arm64, arm) and the code generator. It
// promises: 64-bit comparisons, every operator and action of the specification; a name that an
// architecture does not have is skipped there; a call from an architecture that is not listed kills the
// process; a call newer than every call that the profile names gets ENOSYS instead of the default
// errno, as runc does it; frequent calls take few instructions. The same input gives the same bytes.
//
// It must not know which profile is used, or why.
package seccomp
