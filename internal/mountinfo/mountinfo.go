// Package mountinfo reads lines of /proc/PID/mountinfo.
package mountinfo

import (
	"strconv"
	"strings"
)

// Mount is a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	Dev     string // MAJOR:MINOR
	Root    string // the directory of the file system that is mounted
	Path    string // where it is mounted
	Shared  bool   // its mounts and unmounts are seen by its peers
	FSType  string
	Source  string
	Options string // of the file system, comma-separated
}

// Parse reads one line; false where it is none:
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func Parse(line string) (Mount, bool) {
	place, what, ok := strings.Cut(line, " - ")
	p, w := strings.Fields(place), strings.Fields(what)
	if !ok || len(p) < 6 || len(w) < 2 {
		return Mount{}, false
	}
	m := Mount{Dev: p[2], Root: unescape(p[3]), Path: unescape(p[4]), FSType: w[0], Source: unescape(w[1])}
	for _, field := range p[6:] {
		m.Shared = m.Shared || strings.HasPrefix(field, "shared:")
	}
	if len(w) > 2 {
		m.Options = w[2]
	}
	return m, true
}

// unescape replaces \040 and its kin: the kernel writes blanks and backslashes as three octal digits.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
