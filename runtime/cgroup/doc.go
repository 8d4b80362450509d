// Package cgroup makes, limits, watches and removes the control group of a container, on version 1, version 2
// and the hybrid of both, through their file systems.
//
// It owns the directories that it made, and what is written into them; which file a limit of the OCI
// configuration goes into is written here and nowhere else. It promises that Destroy removes whatever of a
// group is there, however far its making got, and never a group that it was not given.
// It must not know what a container is, and never mounts or unmounts anything.
package cgroup
