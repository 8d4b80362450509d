// Package ignore matches paths against .dockerignore's patterns, as github.com/moby/patternmatcher
// does (a fuzz test holds both together), with fast ways for the patterns that people write.
package ignore
