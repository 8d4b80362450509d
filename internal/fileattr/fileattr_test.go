package fileattr

import (
	"strings"
	"testing"
)

func TestAllowed(t *testing.T) {
	rest := strings.Repeat("\x00", 16)
	for _, c := range []struct {
		name, value string
		want        bool
	}{
		{"user.note", "", true},
		{"user.", "", false},
		{"user.a\x00b", "", false},
		{"user.overlay.opaque", "y", false},
		{"trusted.overlay.opaque", "y", false},
		{"trusted.note", "", false},
		{"security.selinux", "system_u:object_r:bin_t:s0", false},
		{"security.ima", "\x03", false},
		{"security.capabilit", "", false},
		{"system.posix_acl_access", "\x02\x00\x00\x00", false},
		{Capability, "\x01\x00\x00\x02" + rest, true},
		{Capability, "\x00\x00\x00\x03" + rest + "\x00\x00\x01\x00", true},
		{Capability, "\x00\x00\x00\x03" + rest + "\xff\xff\xff\xff", false},
		{Capability, "\x00\x00\x00\x03" + rest, false},
		{Capability, "\x00\x00\x00\x01" + rest[:8], false}, // revision 1 is not set any more
		{Capability, "\x02", false},
		{Capability, "", false},
	} {
		if got := Allowed(c.name, c.value); got != c.want {
			t.Errorf("%q %q: %v", c.name, c.value, got)
		}
	}
}
