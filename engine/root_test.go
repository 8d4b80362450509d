package engine

import "testing"

func TestPlaceIn(t *testing.T) {
	const table = `21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:20 / /run rw,nosuid shared:5 master:2 - tmpfs tmpfs rw
23 22 0:21 / /run/user\040x rw,nosuid - tmpfs tmpfs rw
24 22 0:20 /berth /run/berth rw,nosuid - tmpfs tmpfs rw
25 24 0:22 / /run/berth/layers/mounts/a ro - erofs /x ro
26 22 0:20 /berth /run/berth rw,nosuid shared:9 - tmpfs tmpfs rw
27 21 0:23 / /priv rw master:3 - tmpfs shared:7 rw
`
	for path, want := range map[string]mountPlace{
		"/var/lib/x":    {"/", true, false},
		"/run/x":        {"/run", true, false},
		"/run/berth":    {"/run/berth", true, true}, // the one on top counts
		"/run/berth/x":  {"/run/berth", true, false},
		"/run/berth-2":  {"/run", true, false},
		"/run/user x/y": {"/run/user x", false, false},
		"/priv/x":       {"/priv", false, false}, // what comes after the dash is no flag
	} {
		if got := placeIn(table, path); got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
}
