// Package protocol is what the engine and a shim say to each other, and what a shim leaves on disk: messages, phases,
// and the exit record.
//
// A connection is a unix stream socket that carries frames (internal/frame), some with descriptors beside them
// (SCM_RIGHTS). There are two ways to get one: the engine makes a pair when it starts a shim (the launch
// connection), and it dials DIR/shim.sock. Each connection holds one conversation; what may be said next is its
// phase. The table in table.go has them all; a message that is out of order is an error on both sides, and the
// connection is given up. An error crosses as step, object and errno, not as text.
//
// It must not know how either side does what it is told.
package protocol
