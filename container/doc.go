// Package container owns a container's record, its states, and what moves it between them: restart
// policies, health checks, names.
//
// A record is what was asked for (Config) and what became of it (State). Durable containers have
// their record below the data root; those that are removed when they end (--rm) have it below the
// exec root, which does not outlive the machine's uptime. Transitions of one container are made by
// whoever holds its claim; a claim is never held while anything is waited for that the container, its
// user or a network decides, so that a container that hangs never holds up a command about another.
//
// The room knows nothing of layers, networks and processes: the engine composes them.
package container
