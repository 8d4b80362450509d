// Package localtar turns files of this machine into a tar and a tar into files, for `berth cp`.
//
// It promises: nothing is written outside the directory that Extract was given, whatever names, links
// and orders the tar has (os.Root); owners are the caller's, modes and times the tar's; a directory is
// never replaced by something else, nor the other way round. It must not know containers.
package localtar
