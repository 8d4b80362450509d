// Package client is the command line's half of a build's session: it lists directories, reads files,
// finds secrets and asks credential helpers, when and only when the engine asks.
//
// It promises to open nothing but regular files below the directories that it was given, and never to
// block the reader of the connection. It links nothing heavy.
package client
