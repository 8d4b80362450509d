// Package specjson reads OCI runtime configurations from JSON without reflection.
//
// It owns a small JSON decoder and the code, written by gen.go, that reads specs.Spec and what is in it on Linux.
// It promises what encoding/json gives for the same document, for a fifth of the time and of the memory where a
// process reads one document in its life: a shim, whose memory is paid once a container, or one call of the OCI
// command line. (encoding/json spends 250 KB and most of its time on looking at the types; seen.) Two differences:
// keys must be written as the specification writes them, and what is not for Linux (windows, solaris, zos, vm) is
// skipped.
//
// It must not know what a configuration means.
package specjson
