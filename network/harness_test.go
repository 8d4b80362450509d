package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-engine/berth/internal/testroot"
)

// The tests that need root run in a network namespace of this process's own, made by running the
// test binary once more in it: nothing of the machine's network is touched. In it, each test makes a
// second one that plays the world outside.
const insideEnv = "BERTH_NETWORK_TEST_INSIDE"

func TestMain(m *testing.M) {
	if role := os.Getenv(helperEnv); role != "" {
		os.Exit(helper(role))
	}
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	if os.Getenv(insideEnv) != "" {
		if err := resetNamespace(); err != nil {
			fmt.Fprintln(os.Stderr, "set up the tests' network namespace:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "run the tests in a network namespace:", err)
		os.Exit(1)
	}
}

// resetNamespace makes a new namespace what it is on a machine that has just started: the kernel
// copies some values from the machine's own namespace, where an engine may run.
func resetNamespace() error {
	for _, s := range []sysctl{
		{"net/ipv4/ip_forward", "0"}, {"net/ipv4/conf/all/accept_redirects", "1"}, {"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv6/conf/all/forwarding", "0"}, {"net/ipv6/conf/default/accept_ra", "1"}, {"net/ipv6/conf/default/disable_ipv6", "0"},
		{"net/ipv6/conf/default/accept_dad", "0"}, // addresses that stay as they are
	} {
		if err := writeSysctl(s.path, s.value); err != nil {
			return err
		}
	}
	return nil
}

// machine is the host that an engine runs on, with the world outside beside it.
type machine struct {
	t       testing.TB
	host    *os.File
	outside *os.File
	opts    Options
	before  string // what unchanged compares with
}

// Addresses of the wire between host and outside.
var (
	hostAddr    = netip.MustParseAddr("203.0.113.1")
	outsideAddr = netip.MustParseAddr("203.0.113.2")
	hostAddr6   = netip.MustParseAddr("2001:db8::1")
	outside6    = netip.MustParseAddr("2001:db8::2")
)

// newMachine makes the world outside. At the end of the test everything on the host must be as it
// was when newMachine returned.
func newMachine(t testing.TB) *machine {
	t.Helper()
	testroot.Require(t)
	host, err := os.Open("/proc/self/ns/net")
	must(t, err)
	r, err := openRtnl()
	must(t, err)
	must(t, r.up(loopbackIndex))
	out, err := newNamespace(host)
	must(t, err)
	m := &machine{t: t, host: host, outside: out.file}
	must(t, m.in(out.file, func() error {
		return errors.Join(writeSysctl("net/ipv6/conf/default/disable_ipv6", "0"), writeSysctl("net/ipv6/conf/default/accept_dad", "0"))
	}))
	must(t, r.addVeth(veth{host: "wire0", inside: "wire0", mac: macFor(outsideAddr), mtu: 1500, ns: int(out.file.Fd())}))
	must(t, configureWire(r, hostAddr, hostAddr6))
	index, err := out.index("wire0")
	must(t, err)
	must(t, out.up(index))
	must(t, configureWire(out.rtnl, outsideAddr, outside6))
	must(t, out.addDefaultRoute(index, hostAddr)) // so that it tries to get in where it should not
	out.rtnl.close()
	dir := testroot.Dir(t)
	m.opts = Options{
		Root: filepath.Join(dir, "data"), ExecRoot: filepath.Join(dir, "run"),
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)), Warm: -1,
	}
	if !poll(func() bool {
		return containsLine(run(t, "ip", "-o", "link"), "wire0", "state UP") && containsLine(run(t, "ip", "-o", "address"), "wire0", "fe80:")
	}) {
		t.Fatal("the wire to the outside does not come up")
	}
	m.before = m.snapshot()
	atFirst := m.before
	t.Cleanup(func() {
		m.before = atFirst
		m.unchanged()
		index, err := r.index("wire0")
		must(t, err)
		must(t, r.deleteLink(index))
		r.close()
		m.outside.Close()
		m.host.Close()
	})
	return m
}

func configureWire(r *rtnl, addrs ...netip.Addr) error {
	index, err := r.index("wire0")
	if err != nil {
		return err
	}
	for _, a := range addrs {
		bits := 24
		if a.Is6() {
			bits = 64
		}
		if err := r.addAddress(index, netip.PrefixFrom(a, bits)); err != nil {
			return err
		}
	}
	return nil
}

// at returns the same machine for a test within the test.
func (m *machine) at(t testing.TB) *machine {
	sub := *m
	sub.t = t
	return &sub
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (m *machine) in(ns *os.File, f func() error) error { return inNamespace(m.host, ns, f) }

// open opens a Controller that took over the live containers, and closes it at the end of the test
// unless that was done before.
func (m *machine) open(live ...Live) *Controller {
	m.t.Helper()
	c, err := Open(m.t.Context(), m.opts)
	must(m.t, err)
	must(m.t, c.Recover(m.t.Context(), live))
	m.t.Cleanup(func() { must(m.t, c.Close(context.Background())) })
	return c
}

// attach attaches a container and detaches it at the end of the test.
func (m *machine) attach(c *Controller, req Request) *Sandbox {
	m.t.Helper()
	s, err := c.Attach(m.t.Context(), req)
	must(m.t, err)
	m.t.Cleanup(func() {
		s.Close()
		if err := c.Detach(context.Background(), req.ContainerID); err != nil && !c.isClosed() {
			m.t.Error(err)
		}
	})
	return s
}

func (c *Controller) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == closed
}

// snapshot is everything on the host that an engine could change.
func (m *machine) snapshot() string {
	m.t.Helper()
	var b strings.Builder
	for _, args := range []string{
		"ip -o link", "ip -o address", "ip route show table all", "ip -6 route show table all", "ip rule", "nft list ruleset",
	} {
		fmt.Fprintf(&b, "$ %s\n%s\n", args, run(m.t, strings.Fields(args)...))
	}
	for _, dir := range []string{"/proc/sys/net/ipv4", "/proc/sys/net/ipv6", "/proc/sys/net/netfilter"} {
		must(m.t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || volatileSysctl(path) {
				return nil // a link's directory that goes while it is walked
			}
			if v, err := os.ReadFile(path); err == nil {
				fmt.Fprintf(&b, "%s = %s", path, v)
			}
			return nil
		}))
	}
	return counters.ReplaceAllString(b.String(), "counter")
}

var counters = regexp.MustCompile(`counter packets \d+ bytes \d+`)

// volatileSysctl reports whether a value changes of itself.
func volatileSysctl(path string) bool {
	switch filepath.Base(path) {
	case "nf_conntrack_count", "flush", "stable_secret":
		return true
	}
	return false
}

// unchanged fails the test unless the host comes to be as it was: dead namespaces take their
// interfaces with them a moment after their last user.
func (m *machine) unchanged() {
	m.t.Helper()
	var now string
	if !poll(func() bool { now = m.snapshot(); return now == m.before }) {
		m.t.Errorf("the host is not as it was:\n%s", difference(m.before, now))
	}
}

// difference returns the lines that only one of a and b has.
func difference(a, b string) string {
	var out []string
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, l := range as {
		if !slices.Contains(bs, l) {
			out = append(out, "-"+l)
		}
	}
	for _, l := range bs {
		if !slices.Contains(as, l) {
			out = append(out, "+"+l)
		}
	}
	if most := 20; len(out) > most {
		out = append(out[:most], "…")
	}
	return strings.Join(out, "\n")
}

const deadline = 30 * time.Second

// poll asks for a condition until it holds, or until long after it should.
func poll(holds func() bool) bool {
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return true
		}
	}
	return holds()
}

func run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// runIn runs a program in a namespace.
func runIn(t testing.TB, ns *os.File, args ...string) string {
	t.Helper()
	cmd := exec.Command("nsenter", append([]string{"--net=/proc/self/fd/3"}, args...)...)
	cmd.ExtraFiles = []*os.File{ns}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve answers everything that comes to addr in ns with "NAME to CLIENT", until the test ends.
func (m *machine) serve(ns *os.File, proto, addr, name string) {
	m.t.Helper()
	must(m.t, m.in(ns, func() error {
		if proto == UDP {
			c, err := net.ListenPacket(proto, addr)
			if err != nil {
				return err
			}
			m.t.Cleanup(func() { c.Close() })
			go func() {
				buf := make([]byte, 100)
				for {
					_, from, err := c.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte(name+" to "+hostOf(from)), from)
				}
			}()
			return nil
		}
		l, err := net.Listen(proto, addr)
		if err != nil {
			return err
		}
		m.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, name+" to "+hostOf(c.RemoteAddr()))
				c.Close()
			}
		}()
		return nil
	}))
}

func hostOf(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	return host
}

// ask connects from ns and returns the answer.
func (m *machine) ask(ns *os.File, proto, addr string, timeout time.Duration) (answer string, err error) {
	err = m.in(ns, func() error {
		c, err := net.DialTimeout(proto, addr, timeout)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		if proto == UDP {
			if _, err := io.WriteString(c, "?"); err != nil {
				return err
			}
		}
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		answer = string(buf[:n])
		return err
	})
	return answer, err
}

// reaches fails the test unless an answer comes.
func (m *machine) reaches(ns *os.File, proto, addr, want string) {
	m.t.Helper()
	got, err := m.ask(ns, proto, addr, deadline)
	if err != nil || got != want {
		m.t.Errorf("%s %s: %q, %v; want %q", proto, addr, got, err, want)
	}
}

// blocked fails the test if an answer comes. How long it waits decides only how surely a hole is
// found, never whether the test passes without one.
func (m *machine) blocked(ns *os.File, proto, addr string) {
	m.t.Helper()
	if got, err := m.ask(ns, proto, addr, 100*time.Millisecond); err == nil {
		m.t.Errorf("%s %s is reached (%q), and should not be", proto, addr, got)
	}
}

// helperEnv makes the test binary play a part beside the test.
const helperEnv = "BERTH_NETWORK_TEST_HELPER"

func helper(role string) int {
	args := strings.Fields(role)
	var err error
	switch args[0] {
	case "churn":
		err = churn(args[1], args[2])
	case "nobpf":
		err = withoutBPF(args[1], args[2])
	case "hold":
		err = hold(args[1], args[2])
	default:
		err = errors.New("no such helper: " + role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// exchange sends a packet and returns the answer, "" if none comes soon.
func exchange(c net.Conn) string {
	if _, err := io.WriteString(c, "?"); err != nil {
		return "" // the port was closed a moment ago
	}
	buf := make([]byte, 100)
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	n, _ := c.Read(buf)
	return string(buf[:n])
}

func containsLine(out string, parts ...string) bool {
	for line := range bytes.Lines([]byte(out)) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !bytes.Contains(line, []byte(p)) }) {
			return true
		}
	}
	return false
}
