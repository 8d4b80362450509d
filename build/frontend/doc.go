// Package frontend turns a Dockerfile into an LLB graph and an image configuration, with BuildKit's own
// front end in this process: every Dockerfile means what it means to Docker.
//
// It promises errors of one sentence with file, line and word, and only such graphs as the solver can
// execute. It must not know how a graph is executed.
package frontend
