package engine

import "testing"

func TestResolv(t *testing.T) {
	in := "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\nsearch a.example b.example\noptions edns0 trust-ad\noptions ndots:2\n"
	r := parseResolv([]byte(in))
	r.servers = r.reachable()
	want := "nameserver 10.0.0.1\nsearch a.example b.example\noptions edns0 trust-ad ndots:2\n"
	if got := string(r.bytes()); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCutHost(t *testing.T) {
	for in, want := range map[string][2]string{
		"db:10.0.0.1": {"db", "10.0.0.1"}, "db=10.0.0.1": {"db", "10.0.0.1"}, "db:::1": {"db", "::1"}, "db:[::1]": {"db", "::1"}, "h:host-gateway": {"h", "host-gateway"},
	} {
		if name, addr, ok := cutHost(in); !ok || name != want[0] || addr != want[1] {
			t.Errorf("%s: %q %q %v", in, name, addr, ok)
		}
	}
	for _, in := range []string{"", "db", ":10.0.0.1", "db:"} {
		if _, _, ok := cutHost(in); ok {
			t.Errorf("%q was accepted", in)
		}
	}
}
