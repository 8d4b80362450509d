package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/berth-engine/berth/internal/testroot"
	"golang.org/x/sys/unix"
)

// TestWithoutBPF: where no filter can be loaded, containers work all the same, and the log says once
// what is missing.
func TestWithoutBPF(t *testing.T) {
	m := newMachine(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=nobpf "+m.opts.Root+" "+m.opts.ExecRoot)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "loopback"); n != 1 {
		t.Errorf("said %d times:\n%s", n, out)
	}
}

// withoutBPF is TestWithoutBPF's other side.
func withoutBPF(root, execRoot string) error {
	if err := testroot.Deny(unix.SYS_BPF, unix.EPERM, 0); err != nil {
		return err
	}
	if _, err := loadProgram(dropLoopback()); !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("bpf is not denied: %w", err)
	}
	ctx := context.Background()
	var logged bytes.Buffer
	c, err := Open(ctx, Options{Root: root, ExecRoot: execRoot, Warm: -1, Log: slog.New(slog.NewTextHandler(&logged, nil))})
	if err != nil {
		return err
	}
	if err := c.Recover(ctx, nil); err != nil {
		return err
	}
	for i := range 2 {
		if err := attachAndAsk(ctx, c, fmt.Sprint("c", i)); err != nil {
			return errors.Join(err, c.Close(ctx))
		}
	}
	fmt.Print(logged.String())
	return c.Close(ctx)
}

func attachAndAsk(ctx context.Context, c *Controller, id string) (err error) {
	s, err := c.Attach(ctx, Request{ContainerID: id, Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(), c.Detach(ctx, id)) }()
	var l net.Listener
	if err := inNamespace(c.host.ns, s.NS, func() (err error) { l, err = net.Listen("tcp", ":80"); return err }); err != nil {
		return err
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = io.WriteString(conn, id)
			conn.Close()
		}
	}()
	conn, err := net.Dial("tcp", "127.0.0.1:8080")
	if err != nil {
		return err
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != id {
		return fmt.Errorf("the answer is %q: %w", got, err)
	}
	return nil
}

// TestHostWithoutIPv6 publishes on IPv4 only.
func TestHostWithoutIPv6(t *testing.T) {
	m := newMachine(t)
	m.setSysctl("net/ipv6/conf/all/disable_ipv6", "1")
	t.Cleanup(func() { // the kernel took the addresses away
		must(t, writeSysctl("net/ipv6/conf/all/disable_ipv6", "0"))
		run(t, "ip", "link", "set", "wire0", "down")
		run(t, "ip", "link", "set", "wire0", "up")
		run(t, "ip", "address", "add", "2001:db8::1/64", "dev", "wire0", "nodad")
	})
	c := m.open()
	web := m.publishing(c)
	if len(web.Ports) != 2 || !web.Ports[0].HostIP.Is4() || !web.Ports[1].HostIP.Is4() {
		t.Errorf("%v", web.Ports)
	}
	m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())
	m.reaches(m.host, UDP, "127.0.0.1:8080", "web to "+web.Endpoints[0].Gateway4.String())
}
