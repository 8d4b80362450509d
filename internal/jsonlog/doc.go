// Package jsonlog writes and reads a container's log in the format of Docker's json-file driver: one line
// of JSON for each line of output, {"log":"text\n","stream":"stdout","time":"2006-01-02T15:04:05.999999999Z"}.
//
// It owns the files of one log: PATH, and rotated ones PATH.1 (newest) to PATH.(n-1). It promises: a line
// is whole or not there; a full disk drops lines and counts them, and never blocks; the files together
// stay within their bounds; lines longer than 16 KiB are cut as Docker cuts them. A Reader follows across
// rotations and ends when it is told that the container has ended.
//
// It must not know who writes or reads, nor what a container is.
package jsonlog
