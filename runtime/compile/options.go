package compile

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mountOptions are the fstab options of one mount, sorted by what the kernel does with them.
type mountOptions struct {
	attr        attributes // of this mount
	recursive   attributes // of this one and everything below: "rro", "rnosuid", …
	propagation []propagation
	data        [][2]string // of the file system: key and value, "" for a flag
	super       []string    // of the file system, as flags: "ro", "sync"
	bind        bool
	rbind       bool
	copyUp      bool // "tmpcopyup": begin with what the image has there
}

type propagation struct {
	flag    uint64
	recurse bool
}

func (a attributes) String() string {
	var l []string
	for _, n := range attributeNames {
		if a.set&n.bit == n.bit && n.bit != 0 {
			l = append(l, n.name)
		}
	}
	for _, n := range attributeNames {
		if a.clear&n.bit == n.bit && n.bit != 0 {
			l = append(l, "not "+n.name)
		}
	}
	switch a.propagation {
	case unix.MS_PRIVATE:
		l = append(l, "private")
	case unix.MS_SLAVE:
		l = append(l, "slave")
	case unix.MS_SHARED:
		l = append(l, "shared")
	case unix.MS_UNBINDABLE:
		l = append(l, "unbindable")
	}
	return strings.Join(l, " ")
}

var attributeNames = []struct {
	name string
	bit  uint64
}{
	{"ro", unix.MOUNT_ATTR_RDONLY}, {"nosuid", unix.MOUNT_ATTR_NOSUID}, {"nodev", unix.MOUNT_ATTR_NODEV}, {"noexec", unix.MOUNT_ATTR_NOEXEC},
	{"noatime", unix.MOUNT_ATTR_NOATIME}, {"strictatime", unix.MOUNT_ATTR_STRICTATIME}, {"nodiratime", unix.MOUNT_ATTR_NODIRATIME},
	{"nosymfollow", unix.MOUNT_ATTR_NOSYMFOLLOW},
}

// atime are the three ways of keeping access times: one excludes the others, and relatime is none set.
const atime = unix.MOUNT_ATTR__ATIME

type attrOption struct {
	name       string
	set, clear uint64
}

// The tables are slices and not maps: a map would be filled at every start of the program.
var attrOptions = []attrOption{
	{"ro", unix.MOUNT_ATTR_RDONLY, 0}, {"rw", 0, unix.MOUNT_ATTR_RDONLY},
	{"nosuid", unix.MOUNT_ATTR_NOSUID, 0}, {"suid", 0, unix.MOUNT_ATTR_NOSUID},
	{"nodev", unix.MOUNT_ATTR_NODEV, 0}, {"dev", 0, unix.MOUNT_ATTR_NODEV},
	{"noexec", unix.MOUNT_ATTR_NOEXEC, 0}, {"exec", 0, unix.MOUNT_ATTR_NOEXEC},
	{"nodiratime", unix.MOUNT_ATTR_NODIRATIME, 0}, {"diratime", 0, unix.MOUNT_ATTR_NODIRATIME},
	{"nosymfollow", unix.MOUNT_ATTR_NOSYMFOLLOW, 0}, {"symfollow", 0, unix.MOUNT_ATTR_NOSYMFOLLOW},
	{"noatime", unix.MOUNT_ATTR_NOATIME, atime}, {"atime", 0, atime},
	{"strictatime", unix.MOUNT_ATTR_STRICTATIME, atime}, {"nostrictatime", 0, atime},
	{"relatime", 0, atime}, {"norelatime", 0, atime},
}

func attrOptionOf(name string) (attrOption, bool) {
	for _, o := range attrOptions {
		if o.name == name {
			return o, true
		}
	}
	return attrOption{}, false
}

var propagationOptions = []struct {
	name string
	propagation
}{
	{"private", propagation{unix.MS_PRIVATE, false}}, {"rprivate", propagation{unix.MS_PRIVATE, true}},
	{"slave", propagation{unix.MS_SLAVE, false}}, {"rslave", propagation{unix.MS_SLAVE, true}},
	{"shared", propagation{unix.MS_SHARED, false}}, {"rshared", propagation{unix.MS_SHARED, true}},
	{"unbindable", propagation{unix.MS_UNBINDABLE, false}}, {"runbindable", propagation{unix.MS_UNBINDABLE, true}},
}

func propagationOf(name string) (propagation, bool) {
	for _, p := range propagationOptions {
		if p.name == name {
			return p.propagation, true
		}
	}
	return propagation{}, false
}

// superOptions are flags of a file system's super block; noOptions ask for nothing.
var (
	superOptions = []string{"sync", "dirsync", "lazytime", "mand", "iversion"}
	noOptions    = []string{"", "defaults", "async", "nolazytime", "nomand", "noiversion", "loud", "silent"}
)

// parseOptions sorts options as OCI runtime-spec 1.3, "Linux mount options", names them.
func parseOptions(options []string) (mountOptions, error) {
	var o mountOptions
	for _, name := range options {
		switch {
		case slices.Contains(noOptions, name):
		case name == "bind":
			o.bind = true
		case name == "rbind":
			o.rbind = true
		case name == "tmpcopyup":
			o.copyUp = true
		case name == "idmap" || name == "ridmap":
			return o, fmt.Errorf("mount option %q: mappings of single mounts are not supported; the engine hands over mapped trees", name)
		case name == "remount":
			return o, fmt.Errorf("mount option %q: the mount of another entry can't be changed", name)
		case slices.Contains(superOptions, name):
			o.super = append(o.super, name)
		default:
			if p, ok := propagationOf(name); ok {
				o.propagation = append(o.propagation, p)
				continue
			}
			if a, ok := attrOptionOf(name); ok {
				o.attr = a.on(o.attr)
				continue
			}
			if a, ok := attrOptionOf(strings.TrimPrefix(name, "r")); ok && name[0] == 'r' {
				o.recursive = a.on(o.recursive)
				continue
			}
			key, value, _ := strings.Cut(name, "=")
			if len(value) > 255 {
				return o, fmt.Errorf("mount option %q is longer than the 255 bytes that the kernel takes", key)
			}
			o.data = append(o.data, [2]string{key, value})
		}
	}
	return o, nil
}

// on applies the option after those before it: the last one counts.
func (a attrOption) on(m attributes) attributes {
	m.set = m.set&^a.clear | a.set
	m.clear = m.clear&^a.set | a.clear
	if a.clear&atime != 0 {
		m.clear |= atime
	}
	return m
}

func (a attributes) empty() bool { return a.set == 0 && a.clear == 0 && a.propagation == 0 }

// MountOptions names all mount options that are understood beside those of the file systems.
func MountOptions() []string {
	l := []string{"bind", "rbind", "defaults", "async", "tmpcopyup"}
	l = append(l, superOptions...)
	for _, p := range propagationOptions {
		l = append(l, p.name)
	}
	for _, a := range attrOptions {
		l = append(l, a.name, "r"+a.name)
	}
	slices.Sort(l)
	return l
}
