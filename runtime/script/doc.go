// Package script is the start of a process as data: a flat list of system calls that ordinary Go code
// writes down from a configuration, and that a child made by a raw clone plays. The child never
// returns to Go; it ends in execve, in exit_group, or in a recorded failure.
//
// It owns the language (steps, registers, expected errnos, conditions, meeting points), the memory that
// parent and child share, the player, and the printed form. It promises that a step which fails with an
// errno that it did not name ends the start, and that the parent learns step, object and errno even
// where the child may no longer write to anything.
// It must not know what a container is: which calls are made, and in which order, is the business of
// runtime/compile.
//
// # The language
//
// A step is one system call. Its arguments are numbers, strings, buffers, or registers: results of
// earlier steps. A step that may fail names the errnos with which it may (Step.May) and where the
// script goes on then (Step.Else); everything else ends the script. EINTR is retried for ever, EAGAIN a
// bounded number of times, unless the step names them. Condition steps (Expect) compare a register;
// Load and Store move values between registers and buffers; Meet waits for the parent, Receive takes
// descriptors from it.
package script
