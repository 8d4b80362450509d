package network

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// holdPort has another process hold a port, and returns its id.
func holdPort(t *testing.T, proto, addr string) int {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=hold "+proto+" "+addr)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "holding\n" {
		t.Fatalf("%q %v", line, err)
	}
	return cmd.Process.Pid
}

// hold is holdPort's other side: it ends with its input.
func hold(proto, addr string) error {
	if proto == UDP {
		c, err := net.ListenPacket(proto, addr)
		if err != nil {
			return err
		}
		defer c.Close()
	} else {
		l, err := net.Listen(proto, addr)
		if err != nil {
			return err
		}
		defer l.Close()
	}
	fmt.Println("holding")
	_, _ = os.Stdin.Read(make([]byte, 1))
	return nil
}

// TestPortConflict: a port that something else on the host has is a conflict at once, and the error
// says who has it.
func TestPortConflict(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	for name, test := range map[string]struct {
		held    string // "proto addr"
		binding PortBinding
		want    string // pattern; "" wants success
	}{
		"tcp":                    {"tcp 0.0.0.0:8080", PortBinding{HostPort: 8080}, `port 8080 on this host is already taken by [^ ]+ \(pid PID\); publish another with -p 8081:80`},
		"udp":                    {"udp 0.0.0.0:8080", PortBinding{HostPort: 8080, Proto: UDP}, `port 8080/udp on this host is already taken by [^ ]+ \(pid PID\); publish another with -p 8081:80/udp`},
		"one address":            {"tcp 127.0.0.1:8080", PortBinding{HostPort: 8080}, `port 8080 .*\(pid PID\)`},
		"on one address":         {"tcp 0.0.0.0:8080", PortBinding{HostPort: 8080, HostIP: hostAddr}, `port 8080 on 203.0.113.1 is already taken by .*\(pid PID\); publish another with -p 203.0.113.1:8081:80`},
		"IPv6 only":              {"tcp6 [::1]:8080", PortBinding{HostPort: 8080}, `port 8080 .*\(pid PID\)`},
		"both families":          {"tcp [::]:8080", PortBinding{HostPort: 8080, HostIP: netip.IPv4Unspecified()}, `port 8080 .*\(pid PID\)`},
		"another protocol":       {"tcp 0.0.0.0:8080", PortBinding{HostPort: 8080, Proto: UDP}, ""},
		"another port":           {"tcp 0.0.0.0:8080", PortBinding{HostPort: 8081}, ""},
		"another address":        {"tcp 127.0.0.1:8080", PortBinding{HostPort: 8080, HostIP: hostAddr}, ""},
		"all of a range but one": {"tcp 0.0.0.0:8080", PortBinding{HostPort: 8080, HostPortEnd: 8081}, ""},
		"the highest":            {"tcp 0.0.0.0:65535", PortBinding{HostPort: 65535}, `port 65535 .*-p 65534:80`},
	} {
		t.Run(name, func(t *testing.T) {
			proto, address, _ := strings.Cut(test.held, " ")
			pid := holdPort(t, proto, address)
			test.binding.ContainerPort = 80
			s, err := c.Attach(t.Context(), Request{ContainerID: "c", Ports: []PortBinding{test.binding}})
			if test.want == "" {
				must(t, err)
				s.Close()
				must(t, c.Detach(t.Context(), "c"))
				return
			}
			want := strings.ReplaceAll(test.want, "PID", fmt.Sprint(pid))
			if !errdefs.IsUnavailable(err) || !regexp.MustCompile(want).MatchString(err.Error()) {
				t.Errorf("%v; want %s", err, want)
			}
		})
	}
	if attached := c.Containers(c.defaultNetworkID()); len(attached) != 0 {
		t.Errorf("left after errors: %v", attached)
	}
	if len(c.claims) != 0 {
		t.Errorf("claimed after errors: %v", c.claims)
	}
}

// TestPortInstead: the port that is suggested is one that can be had. What another process has, on whichever address and
// family, what a container has, and what the same container asks for besides, is none.
func TestPortInstead(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	m.attach(c, Request{ContainerID: "web", Name: "web", Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}, {HostPort: 8081, ContainerPort: 81}}})
	holdPort(t, TCP, "127.0.0.1:8082")
	holdPort(t, "tcp6", "[::1]:8083")
	holdPort(t, UDP, "0.0.0.0:8086")
	suggested := func(bindings ...PortBinding) string {
		_, err := c.Attach(t.Context(), Request{ContainerID: "c", Ports: bindings})
		if !errdefs.IsUnavailable(err) || !strings.HasSuffix(err.Error(), ": "+errdefs.ErrUnavailable.Error()) {
			t.Errorf("%v", err)
		}
		_, hint, _ := strings.Cut(err.Error(), "publish another with -p ")
		hint, _, _ = strings.Cut(hint, ": ")
		return hint
	}
	taken, loopback := PortBinding{HostPort: 8080, ContainerPort: 90}, netip.IPv6Loopback()
	for want, bindings := range map[string][]PortBinding{
		"8084:90":             {taken},
		"8086:90":             {taken, {HostPort: 8084, HostPortEnd: 8085, ContainerPort: 91}},
		"8085:90":             {taken, {HostPort: 8084, ContainerPort: 91}, {HostPort: 8085, ContainerPort: 91, Proto: UDP}},
		"203.0.113.1:8082:90": {{HostIP: hostAddr, HostPort: 8080, ContainerPort: 90}},
		"[::1]:8082:90":       {{HostIP: loopback, HostPort: 8080, ContainerPort: 90}},
		"8084:92":             {{HostPort: 8080, HostPortEnd: 8083, ContainerPort: 92}},
	} {
		if got := suggested(bindings...); got != want {
			t.Errorf("%+v: %q is suggested, want %q", bindings, got, want)
		}
	}
	if got := suggested(taken, PortBinding{HostPort: 1, HostPortEnd: 9000, ContainerPort: 91}); got != "" {
		t.Errorf("%q is suggested where all is taken", got)
	}
	if len(c.claims) != 2 {
		t.Errorf("claimed are %v", c.claims)
	}
}

// TestPortOfAnotherContainer names it, also where its listener is gone.
func TestPortOfAnotherContainer(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	first := m.attach(c, Request{ContainerID: "0123456789abcdef", Name: "web", Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}}})
	for range 2 {
		for _, host := range []netip.Addr{{}, hostAddr, netip.IPv6Unspecified()} {
			_, err := c.Attach(t.Context(), Request{ContainerID: "second", Ports: []PortBinding{{HostIP: host, HostPort: 8080, ContainerPort: 80}}})
			if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "already taken by container web;") {
				t.Errorf("on %v: %v", host, err)
			}
		}
		must(t, first.Close())
	}
	must(t, c.Detach(t.Context(), "0123456789abcdef"))
	m.attach(c, Request{ContainerID: "second", Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}}})
}

func TestTwiceTheSamePort(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	_, err := c.Attach(t.Context(), Request{ContainerID: "c", Name: "c", Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}, {HostPort: 8080, ContainerPort: 81}}})
	if !errdefs.IsUnavailable(err) {
		t.Error(err)
	}
}

// TestChosenPorts: ports that the engine chooses are free on IPv4 and IPv6, and different.
func TestChosenPorts(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	seen := map[string]bool{}
	var bindings []PortBinding
	for range 20 {
		bindings = append(bindings, PortBinding{ContainerPort: 80}, PortBinding{ContainerPort: 80, Proto: UDP}, PortBinding{HostPort: 9000, HostPortEnd: 9019, ContainerPort: 81})
	}
	s := m.attach(c, Request{ContainerID: "c", Ports: bindings})
	if len(s.Ports) != 2*len(bindings) || len(s.Listeners) != len(s.Ports) {
		t.Fatalf("%d ports, %d listeners", len(s.Ports), len(s.Listeners))
	}
	for i := 0; i < len(s.Ports); i += 2 {
		v4, v6 := s.Ports[i], s.Ports[i+1]
		if v4.HostPort != v6.HostPort || !v4.HostIP.Is4() || !v6.HostIP.Is6() || v4.HostPort == 0 {
			t.Errorf("%+v %+v", v4, v6)
		}
		if v4.ContainerPort == 81 && (v4.HostPort < 9000 || v4.HostPort > 9019) {
			t.Errorf("%+v is not of the range", v4)
		}
		key := fmt.Sprint(v4.Proto, v4.HostPort)
		if seen[key] {
			t.Errorf("%+v was given twice", v4)
		}
		seen[key] = true
	}
	m.serve(s.NS, TCP, ":80", "c")
	m.reaches(m.outside, TCP, fmt.Sprintf("%s:%d", hostAddr, s.Ports[0].HostPort), "c to "+outsideAddr.String())
	_, err := c.Attach(t.Context(), Request{ContainerID: "d", Ports: []PortBinding{{HostPort: 9000, HostPortEnd: 9019, ContainerPort: 81}}})
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "no port from 9000 to 9019 is free") {
		t.Error(err)
	}
}

func TestBadBindings(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	for want, b := range map[string]PortBinding{
		"no interface of this host has that address": {HostIP: netip.MustParseAddr("198.51.100.7"), HostPort: 80, ContainerPort: 80},
		"only tcp and udp":                           {HostPort: 80, ContainerPort: 80, Proto: "sctp"},
		"port 0/tcp":                                 {HostPort: 80},
		"90 to 80":                                   {HostPort: 90, HostPortEnd: 80, ContainerPort: 80},
	} {
		_, err := c.Attach(t.Context(), Request{ContainerID: "c", Ports: []PortBinding{b}})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", b, err, want)
		}
	}
}

// TestDefaultHostIP: who names no address gets the network's, else the engine's.
func TestDefaultHostIP(t *testing.T) {
	m := newMachine(t)
	m.opts.DefaultHostIP = hostAddr
	c := m.open()
	_, err := c.Create(t.Context(), Spec{Name: "local", Options: map[string]string{OptionHostIP: "127.0.0.1"}})
	must(t, err)
	for network, want := range map[string]netip.Addr{"bridge": hostAddr, "local": netip.MustParseAddr("127.0.0.1")} {
		s := m.attach(c, Request{ContainerID: network, Endpoints: []EndpointRequest{{Network: network}}, Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}}})
		if len(s.Ports) != 1 || s.Ports[0].HostIP != want {
			t.Errorf("%s: %v, want %s", network, s.Ports, want)
		}
	}
}

// TestReusedUDPPort: a client that goes on sending to a port finds the container that has it now,
// not the one that had it when its flow began.
func TestReusedUDPPort(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	var client net.Conn
	must(t, m.in(m.outside, func() (err error) {
		client, err = net.Dial(UDP, hostAddr.String()+":8080")
		return err
	}))
	defer client.Close()
	for _, name := range []string{"first", "second"} {
		s := m.attach(c, Request{ContainerID: name, Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80, Proto: UDP}}})
		m.serve(s.NS, UDP, ":80", name)
		var got string
		if !poll(func() bool { got = exchange(client); return strings.HasPrefix(got, name) }) {
			t.Errorf("the answer is %q, not %s's", got, name)
		}
		must(t, s.Close())
		must(t, c.Detach(t.Context(), name))
	}
}

func TestListenFlags(t *testing.T) {
	f, err := listen(Port{HostIP: netip.MustParseAddr("127.0.0.1"), Proto: TCP})
	must(t, err)
	defer f.Close()
	raw, err := f.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("not close-on-exec: %#x %v", flags, err)
		}
		if on, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on != 1 {
			t.Errorf("not listening: %d %v", on, err)
		}
	}))
}

func TestParseSocket(t *testing.T) {
	for line, want := range map[string]socket{
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0000000000000000 100 0 0 10 0":                                          {netip.MustParseAddrPort("127.0.0.1:8080"), true, "4242"},
		"   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0000000000000000 20 4 30 10 -1":                                         {netip.MustParseAddrPort("127.0.0.1:8080"), false, "4243"},
		"   2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 17 1 0000000000000000 100 0 0 10 0":       {netip.MustParseAddrPort("[::1]:80"), true, "17"},
		"   3: B80D0120000000000000000001000000:0050 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 18 1 0000000000000000 100 0 0 10 0":       {netip.MustParseAddrPort("[2001:db8::1]:80"), true, "18"},
		"   4: 0000000000000000FFFF00000100007F:0050 0000000000000000FFFF00000100007F:1234 01 00000000:00000000 00:00000000 00000000 0 0 19 1 0000000000000000 100 0 0 10 0 extra": {netip.MustParseAddrPort("127.0.0.1:80"), false, "19"},
	} {
		if got, ok := parseSocket(line); !ok || got != want {
			t.Errorf("%s\n%+v %v, want %+v", line, got, ok, want)
		}
	}
	for _, line := range []string{"", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", "0: 0100:1 0:0 0A 0 0 0 0 0 1 1", "0: 0100007F:1FFFF 0:0 0A 0 0 0 0 0 1 1"} {
		if got, ok := parseSocket(line); ok {
			t.Errorf("%q became %+v", line, got)
		}
	}
}

func FuzzParseSocket(f *testing.F) {
	f.Add("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0000000000000000 100 0 0 10 0")
	f.Fuzz(func(t *testing.T, line string) {
		if s, ok := parseSocket(line); ok && !s.local.IsValid() {
			t.Errorf("%q became %+v", line, s)
		}
	})
}
