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
