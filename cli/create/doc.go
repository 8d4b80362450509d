// Package create turns the flags of `berth run` and `berth create` into the body of Docker's
// POST /containers/create.
//
// It promises the very JSON that Docker's own client sends for the same flags (a test runs that client
// and compares), and one sentence with the flag and the value in it where a value means nothing. It
// reads the files that flags name (env files, label files, seccomp profiles) and the environment that
// `-e NAME` takes a value from; it must not know the engine, or what it makes of the request.
package create
