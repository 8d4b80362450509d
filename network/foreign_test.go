package network

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/berth-engine/berth/internal/testroot"
)

func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed", program)
	}
}

// TestOtherFirewalls: chains of others that drop what is forwarded get an accept where they want it,
// which goes with the bridge; the tools of these firewalls can still read their rules.
func TestOtherFirewalls(t *testing.T) {
	for name, test := range map[string]struct {
		tool  string
		setup []string
		place string // chain in which the rules are wanted
	}{
		"iptables":          {"iptables-nft", []string{"-P FORWARD DROP"}, "FORWARD"},
		"docker":            {"iptables-nft", []string{"-P FORWARD DROP", "-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER"}, "DOCKER-USER"},
		"ufw":               {"iptables-nft", []string{"-P FORWARD DROP", "-N ufw-user-forward", "-A FORWARD -j ufw-user-forward"}, "ufw-user-forward"},
		"a last drop":       {"iptables-nft", []string{"-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT", "-A FORWARD -j DROP"}, "DOCKER-USER"},
		"accepting":         {"iptables-nft", []string{"-P FORWARD ACCEPT", "-A FORWARD -s 192.0.2.1 -j DROP"}, ""},
		"legacy":            {"iptables-legacy", []string{"-P FORWARD DROP"}, "FORWARD"},
		"legacy and docker": {"iptables-legacy", []string{"-P FORWARD DROP", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER"}, "DOCKER-USER"},
		"legacy, accepting": {"iptables-legacy", []string{"-P FORWARD ACCEPT"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			needs(t, test.tool)
			m := newMachine(t)
			t.Cleanup(func() {
				for _, args := range []string{"-P FORWARD ACCEPT", "-F", "-X"} {
					run(t, append([]string{test.tool}, strings.Fields(args)...)...)
				}
				if test.tool == "iptables-nft" {
					run(t, "nft", "delete", "table", "ip", "filter")
				}
			})
			for _, args := range test.setup {
				run(t, append([]string{test.tool}, strings.Fields(args)...)...)
			}
			m.before = m.snapshot()
			before := run(t, test.tool, "-S")
			c := m.open()
			web := m.publishing(c)
			m.serve(m.outside, TCP, ":90", "world")
			m.reaches(web.NS, TCP, outsideAddr.String()+":90", "world to "+hostAddr.String())
			m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())
			m.blocked(m.outside, TCP, web.Endpoints[0].IPv4.Addr().String()+":80")
			rules := run(t, test.tool, "-S")
			for _, direction := range []string{"-i", "-o"} {
				if found := containsLine(rules, "-A "+test.place+" "+direction+" "+c.names.bridge+" ", "-j ACCEPT"); found != (test.place != "") {
					t.Errorf("%s in %q: %v\n%s", direction, test.place, found, rules)
				}
			}
			// A restarted engine finds its rules, and makes none twice.
			c.crash()
			c = m.open(Live{ContainerID: "web", NS: web.NS})
			if again := run(t, test.tool, "-S"); again != rules {
				t.Errorf("after a restart:\n%swas:\n%s", again, rules)
			}
			must(t, web.Close())
			must(t, c.Detach(t.Context(), "web"))
			must(t, c.Close(t.Context()))
			m.unchanged()
			if now := run(t, test.tool, "-S"); now != before {
				t.Errorf("left behind:\n%s", difference(before, now))
			}
		})
	}
}

// TestOtherFirewallReloaded: its chains are written anew while containers run.
func TestOtherFirewallReloaded(t *testing.T) {
	needs(t, "iptables-nft")
	m := newMachine(t)
	c := m.open()
	m.publishing(c)
	m.serve(m.outside, TCP, ":90", "world")
	t.Cleanup(func() { run(t, "nft", "delete", "table", "ip", "filter") })
	run(t, "iptables-nft", "-P", "FORWARD", "DROP") // a firewall that comes later than the engine
	if !poll(func() bool { return containsLine(run(t, "iptables-nft", "-S"), c.names.bridge) }) {
		t.Fatal("no accept was put into a firewall that came later")
	}
	run(t, "iptables-nft", "-F", "FORWARD")
	if !poll(func() bool { return containsLine(run(t, "iptables-nft", "-S"), c.names.bridge) }) {
		t.Fatal("the accept did not come back after a flush")
	}
	m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())
}

// TestUnknownFirewall: a chain of which nothing is known fails a network, by name, until it says
// itself what is to pass.
func TestUnknownFirewall(t *testing.T) {
	m := newMachine(t)
	nft := func(args string) { run(t, append([]string{"nft"}, strings.Fields(args)...)...) }
	nft("add table inet site")
	t.Cleanup(func() { nft("delete table inet site") })
	nft("add chain inet site pass { type filter hook forward priority 0 ; policy drop ; }")
	nft("add chain inet site more")
	nft("add rule inet site pass ct state established accept")
	nft("add rule inet site pass jump more")
	m.before = m.snapshot()
	c := m.open()
	_, err := c.Attach(t.Context(), Request{ContainerID: "c"})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "chain pass of table inet site drops") || !strings.Contains(err.Error(), `nft insert rule inet site pass iifname "berth-*" accept`) {
		t.Error(err)
	}
	m.unchanged()
	nft("add rule inet site more iifname berth-* accept")
	nft("add rule inet site more oifname berth-* accept")
	s := m.attach(c, Request{ContainerID: "c"})
	m.serve(m.outside, TCP, ":90", "world")
	m.reaches(s.NS, TCP, outsideAddr.String()+":90", "world to "+hostAddr.String())
}

// TestFirewalld runs the real one, on a bus of its own: the bridge is in its zone trusted while it is
// there.
func TestFirewalld(t *testing.T) {
	for _, program := range []string{"firewalld", "firewall-cmd", "dbus-daemon"} {
		needs(t, program)
	}
	m := newMachine(t)
	startFirewalld(t)
	interfaces := func() string { return run(t, "firewall-cmd", "--zone=trusted", "--list-interfaces") }
	c := m.open()
	web := m.publishing(c)
	if got := strings.TrimSpace(interfaces()); got != c.names.bridge {
		t.Errorf("zone trusted has %q, want %s", got, c.names.bridge)
	}
	m.serve(m.outside, TCP, ":90", "world")
	m.reaches(web.NS, TCP, outsideAddr.String()+":90", "world to "+hostAddr.String())
	m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())
	m.blocked(m.outside, TCP, web.Endpoints[0].IPv4.Addr().String()+":80")
	run(t, "firewall-cmd", "--reload")
	if !poll(func() bool { return strings.TrimSpace(interfaces()) == c.names.bridge }) {
		t.Errorf("after a reload, zone trusted has %q", interfaces())
	}
	m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())
	must(t, web.Close())
	must(t, c.Detach(t.Context(), "web"))
	must(t, c.Close(t.Context()))
	if got := strings.TrimSpace(interfaces()); got != "" {
		t.Errorf("left in zone trusted: %q", got)
	}
}

func startFirewalld(t *testing.T) {
	t.Helper()
	dir := testroot.Dir(t)
	config := `<busconfig><type>system</type><listen>unix:path=` + dir + `/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	must(t, os.WriteFile(filepath.Join(dir, "bus.conf"), []byte(config), 0o600))
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+dir+"/bus")
	for _, cmd := range []*exec.Cmd{
		exec.Command("dbus-daemon", "--config-file="+dir+"/bus.conf", "--nofork", "--nopidfile"),
		exec.Command("firewalld", "--nofork", "--nopid", "--log-file", dir+"/log"),
	} {
		must(t, cmd.Start())
		t.Cleanup(func() {
			must(t, cmd.Process.Signal(os.Interrupt))
			_ = cmd.Wait()
		})
		if cmd.Args[0] == "dbus-daemon" && !poll(func() bool { _, err := os.Stat(dir + "/bus"); return err == nil }) {
			t.Skip("no bus can be started here")
		}
	}
	if !poll(func() bool { return exec.Command("firewall-cmd", "--state").Run() == nil }) {
		t.Skip("firewalld can't be started here")
	}
}
