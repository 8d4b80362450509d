// Package fileattr knows the extended attributes of files: which of them may be set because something
// from outside (a tar, a build context) says so. Of security.* that is a file's capabilities only: labels
// and hashes are the host's. What belongs to overlayfs would change what a mount shows.
package fileattr

import (
	"encoding/binary"
	"strings"
)

// Capability is the attribute of a file's capabilities.
const Capability = "security.capability"

// Allowed says whether an attribute of this name and value may be set: a file's capabilities, where they
// are well-formed, and what users set.
func Allowed(name, value string) bool {
	return AllowedName(name) && (name != Capability || IsCapability(value))
}

// AllowedName is Allowed before the value is known.
func AllowedName(name string) bool {
	if strings.ContainsRune(name, 0) {
		return false
	}
	return name == Capability || len(name) > len("user.") && strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// IsACL says whether an attribute of this name is a POSIX ACL, which the kernel itself checks.
func IsACL(name string) bool {
	return name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// IsCapability says whether v is what the kernel takes as security.capability (linux/capability.h,
// vfs_cap_data of revision 2 and vfs_ns_cap_data of revision 3).
func IsCapability(v string) bool {
	const revisionMask, revision2, revision3 = 0xff000000, 0x02000000, 0x03000000
	if len(v) < 4 {
		return false
	}
	switch binary.LittleEndian.Uint32([]byte(v)) & revisionMask {
	case revision2:
		return len(v) == 20
	case revision3:
		return len(v) == 24 && binary.LittleEndian.Uint32([]byte(v[20:])) != 1<<32-1
	}
	return false
}
