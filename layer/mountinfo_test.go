package layer

import (
	"reflect"
	"testing"
)

func TestParseMount(t *testing.T) {
	for line, want := range map[string]mountPoint{
		`36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`: {path: "/mnt2", root: "/mnt1", dev: "98:0", fstype: "ext3", source: "/dev/root"},
		`36 35 0:40 / /a\040b\134\011c ro - erofs /data\040root/x.erofs ro`:              {path: "/a b\\\tc", root: "/", dev: "0:40", fstype: "erofs", source: "/data root/x.erofs"},
		`36 35 0:40 / /x\0 ro shared:1 master:2 propagate_from:3 - tmpfs none rw`:        {path: `/x\0`, root: "/", dev: "0:40", fstype: "tmpfs", source: "none"},
	} {
		if got, ok := parseMount(line); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n is  %+v %v\nwant %+v", line, got, ok, want)
		}
	}
	for _, line := range []string{"", " - ", "36 35 98:0 /mnt1", "36 35 98:0 /mnt1 /mnt2 rw ext3 /dev/root rw", "36 35 98:0 /mnt1 /mnt2 rw - ext3"} {
		if got, ok := parseMount(line); ok {
			t.Errorf("%q was taken for %+v", line, got)
		}
	}
}

func FuzzParseMount(f *testing.F) {
	f.Add(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`)
	f.Fuzz(func(t *testing.T, line string) {
		if m, ok := parseMount(line); ok && (m.fstype == "" || m.dev == "") {
			t.Errorf("%q: %+v", line, m)
		}
	})
}
