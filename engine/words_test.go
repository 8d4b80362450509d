package engine

import (
	"syscall"
	"testing"

	"github.com/berth-engine/berth/container"
	"github.com/containerd/errdefs"
)

func TestParsePort(t *testing.T) {
	for in, want := range map[string]container.Port{
		"80": {Number: 80, Protocol: "tcp"}, "80/tcp": {Number: 80, Protocol: "tcp"}, "53/UDP": {Number: 53, Protocol: "udp"}, "65535/sctp": {Number: 65535, Protocol: "sctp"},
	} {
		if got, err := ParsePort(in); got != want || err != nil {
			t.Errorf("%s: %v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "65536", "-1", "80/", "80/icmp", "x/tcp"} {
		if _, err := ParsePort(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]syscall.Signal{
		"SIGTERM": syscall.SIGTERM, "term": syscall.SIGTERM, "9": syscall.SIGKILL, "SIGRTMIN": 34, "RTMIN+3": 37, "SIGRTMAX-1": 63,
	} {
		if got, err := ParseSignal(in); got != want || err != nil {
			t.Errorf("%s: %v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "65", "-9", "SIGNOTHING", "RTMIN+40"} {
		if got, err := ParseSignal(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
}

func TestParseHost(t *testing.T) {
	for in, want := range map[string][2]string{
		"db:10.0.0.1": {"db", "10.0.0.1"}, "db=10.0.0.1": {"db", "10.0.0.1"}, "db:::1": {"db", "::1"}, "db:[::1]": {"db", "::1"}, "h:host-gateway": {"h", "host-gateway"},
	} {
		if name, addr, err := ParseHost(in); err != nil || name != want[0] || addr != want[1] {
			t.Errorf("%s: %q %q %v", in, name, addr, err)
		}
	}
	for _, in := range []string{"", "db", ":10.0.0.1", "db:"} {
		if _, _, err := ParseHost(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
