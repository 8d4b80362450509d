// Package volume owns named and anonymous volumes: a directory of data each, that containers mount
// and that outlives them.
//
// A volume is filled aside and then renamed into place, so one that can be named is whole. Deleting
// unlinks the record first: what a crash leaves of the data is swept by the next Open, and a delete
// writes nothing, so that it works on a full disk. Who uses a volume is not stored here; the engine
// knows its containers.
package volume
