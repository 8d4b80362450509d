// Package volume owns named and anonymous volumes: a directory of data each, that containers mount
// and that outlives them.
//
// A volume is filled aside and then renamed into place, so one that can be named is whole. Removing
// renames it aside first and deletes in the background: what a crash leaves of the data is swept by the
// next Open. Who uses a volume is not stored here; the engine
// knows its containers.
package volume
