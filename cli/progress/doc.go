// Package progress shows long work: what is done and how much is left, live on a terminal, in plain
// lines elsewhere.
//
// It promises: it writes only to the writer that it was given, it leaves a terminal with its cursor
// visible at the beginning of a line, and without a terminal no line says anything twice. It must not
// know who works.
package progress
