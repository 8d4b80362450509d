package mountinfo

import "testing"

func TestParse(t *testing.T) {
	for line, want := range map[string]Mount{
		`36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`: {Path: "/mnt2", Root: "/mnt1", Dev: "98:0", FSType: "ext3", Source: "/dev/root", Options: "rw,errors=continue"},
		`36 35 0:40 / /a\040b\134\011c ro - erofs /data\040root/x.erofs ro`:              {Path: "/a b\\\tc", Root: "/", Dev: "0:40", FSType: "erofs", Source: "/data root/x.erofs", Options: "ro"},
		`36 35 0:40 / /x\0 ro shared:1 master:2 propagate_from:3 - tmpfs none rw`:        {Path: `/x\0`, Root: "/", Dev: "0:40", Shared: true, FSType: "tmpfs", Source: "none", Options: "rw"},
		`36 35 0:40 / /x ro master:2 shared:1 - tmpfs none`:                              {Path: "/x", Root: "/", Dev: "0:40", Shared: true, FSType: "tmpfs", Source: "none"},
		`36 35 0:40 / /x rw - tmpfs shared:1 rw`:                                         {Path: "/x", Root: "/", Dev: "0:40", FSType: "tmpfs", Source: "shared:1", Options: "rw"},
	} {
		if got, ok := Parse(line); !ok || got != want {
			t.Errorf("%s\n is  %+v %v\nwant %+v", line, got, ok, want)
		}
	}
	for _, line := range []string{"", " - ", "36 35 98:0 /mnt1", "36 35 98:0 /mnt1 /mnt2 rw ext3 /dev/root rw", "36 35 98:0 /mnt1 /mnt2 rw - ext3"} {
		if got, ok := Parse(line); ok {
			t.Errorf("%q was taken for %+v", line, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`)
	f.Fuzz(func(t *testing.T, line string) {
		if m, ok := Parse(line); ok && (m.FSType == "" || m.Dev == "") {
			t.Errorf("%q: %+v", line, m)
		}
	})
}
