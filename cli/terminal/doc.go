// Package terminal is about the user's terminal: whether a file is one, its size and the signal that
// tells of a new one, and raw mode.
//
// It promises: a terminal that was made raw is put back, however the command ends. It must not know
// what is at the other end.
package terminal
