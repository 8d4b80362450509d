package network

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	n, err := namesFor(Options{ExecRoot: "/run/berth"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := namesFor(Options{ExecRoot: "/run/other"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := namesFor(Options{ExecRoot: "/run/berth/"})
	if err != nil || again != n {
		t.Errorf("names of one root differ: %v %v %v", n, again, err)
	}
	if n.tag == other.tag || n.bridge == other.bridge || n.table == other.table || n.bridgeGroup() == other.bridgeGroup() || n.bridgeGroup() == n.deadGroup() {
		t.Errorf("two engines share names: %v %v", n, other)
	}
	id := strings.Repeat("0123456789abcdef", 4)
	for _, name := range []string{n.bridge, n.networkBridge(id), n.veth()} {
		if err := validInterface(name); err != nil {
			t.Error(err)
		}
	}
	if !strings.HasPrefix(n.bridge, "berth-") || !strings.HasPrefix(n.networkBridge(id), "berth-") {
		t.Errorf("no pattern of a firewall's names all bridges: %s, %s", n.bridge, n.networkBridge(id))
	}
	if n, err := namesFor(Options{ExecRoot: "/run/berth", Name: "x", Bridge: "br9"}); err != nil || n.table != "x" || n.bridge != "br9" || validInterface(n.networkBridge(id)) != nil {
		t.Errorf("%v %v", n, err)
	}
}

func TestValidInterface(t *testing.T) {
	for name, ok := range map[string]bool{
		"br0": true, "a-b_c.d": true, "123456789012345": true,
		"": false, ".": false, "..": false, "1234567890123456": false, "a b": false, "a/b": false, "a:b": false, "a*": false, "a%d": false, "ä": false, "a\x00": false, `a"`: false,
	} {
		if err := validInterface(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
