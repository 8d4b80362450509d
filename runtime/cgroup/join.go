package cgroup

import (
	"errors"
	"os"
)

// Join is how a process joins a group, and what the group looks like to a process that is in it. Close it when
// the process was made.
type Join struct {
	// Version is 1 or 2; 0 joins nothing.
	Version int
	// Tasks are open for writing; the process writes "0" into each: tasks of each version 1 hierarchy, or
	// cgroup.procs of the version 2 group. "0" is the writer itself: another pid would cost an RCU grace period.
	Tasks []*os.File
	// Dir is the version 2 group's directory, for CLONE_INTO_CGROUP; nil with version 1.
	Dir *os.File
	// Hierarchies are the version 1 hierarchies, for a mount of type cgroup inside the container.
	Hierarchies []Hierarchy
	// Path is the version 2 group's directory as a path.
	Path string
}

// Hierarchy is a version 1 hierarchy that the group exists in.
type Hierarchy struct {
	Name    string   // of its directory: "cpu,cpuacct"
	Options []string // that mount(8) names it by: "cpu", "cpuacct"; "none", "name=systemd"
	Links   []string // other names that lead to it: "cpu", "cpuacct"
	Path    string   // the group's directory
}

// Close closes the files.
func (j *Join) Close() error {
	if j == nil {
		return nil
	}
	var errs []error
	for _, f := range j.Tasks {
		errs = append(errs, f.Close())
	}
	if j.Dir != nil {
		errs = append(errs, j.Dir.Close())
	}
	return errors.Join(errs...)
}
