package layer

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// mountPoint is a line of /proc/self/mountinfo (proc(5)).
type mountPoint struct {
	path   string // where it is mounted
	root   string // the directory of the file system that is mounted there
	dev    string // MAJOR:MINOR
	fstype string
	source string
}

// mountsBelow lists what is mounted below dir, in the order of mounting.
func mountsBelow(dir string) ([]mountPoint, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []mountPoint
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // an overlay of 500 layers has a long line
	for lines.Scan() {
		if m, ok := parseMount(lines.Text()); ok && strings.HasPrefix(m.path, dir+"/") {
			found = append(found, m)
		}
	}
	return found, lines.Err()
}

// parseMount reads one line:
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func parseMount(line string) (mountPoint, bool) {
	place, what, ok := strings.Cut(line, " - ")
	p, w := strings.Fields(place), strings.Fields(what)
	if !ok || len(p) < 6 || len(w) < 2 {
		return mountPoint{}, false
	}
	return mountPoint{
		dev:    p[2],
		root:   unescape(p[3]),
		path:   unescape(p[4]),
		fstype: w[0],
		source: unescape(w[1]),
	}, true
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
