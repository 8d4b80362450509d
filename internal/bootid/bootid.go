// Package bootid tells one uptime of the machine from another: what was noted in an earlier one is no longer so where a
// restart undoes it (mounts, sysctls), or can't be trusted where a restart loses it (what was not synced).
package bootid

import (
	"os"
	"strings"
)

// Read returns the kernel's random id of this uptime (random(4), boot_id).
func Read() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}
