package network

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// crash ends a Controller as kill -9 would: what it holds in the kernel by descriptors goes, nothing
// else is tidied up.
func (c *Controller) crash() {
	c.watch.close()
	c.ready.stop()
	c.ready.done.Wait()
	for _, s := range c.ready.ready {
		s.ns.Close()
	}
	c.notices.close()
	c.chores.Wait()
	c.fw.close()
	c.host.close()
	c.mu.Lock()
	c.phase = closed // so that the test's Close does nothing
	c.mu.Unlock()
}

// TestRestart: a container that runs while its engine dies keeps its network, and the next engine
// knows it again.
func TestRestart(t *testing.T) {
	for _, end := range []string{"crash", "close"} {
		t.Run(end, func(t *testing.T) {
			m := newMachine(t)
			m.opts.Warm = 2
			c := m.open()
			_, err := c.Create(t.Context(), Spec{Name: "own"})
			must(t, err)
			web := m.publishing(c)
			gone := m.attach(c, Request{ContainerID: "gone", Ports: []PortBinding{{HostPort: 8090, ContainerPort: 80}}})
			own := m.attach(c, Request{ContainerID: "own", Name: "own", Endpoints: []EndpointRequest{{Network: "own", IPv4: c.gateway(t, "own").Next().Next()}}})
			if end == "crash" {
				c.crash()
			} else {
				must(t, c.Close(t.Context()))
			}
			answers := func() {
				t.Helper()
				m.reaches(m.outside, TCP, hostAddr.String()+":8080", "web to "+outsideAddr.String())
				m.reaches(m.host, UDP, "127.0.0.1:8080", "web to "+web.Endpoints[0].Gateway4.String())
			}
			answers()
			must(t, gone.Close()) // it ends while there is no engine
			c = m.open(Live{ContainerID: "web", NS: web.NS}, Live{ContainerID: "own"})
			answers()
			if rules := run(t, "nft", "list", "ruleset"); containsLine(rules, "8090") {
				t.Errorf("what was published for a dead container is left:\n%s", rules)
			}
			if _, err := c.Lookup("gone"); !errdefs.IsNotFound(err) {
				t.Error(err)
			}
			for _, s := range []*Sandbox{web, own} {
				a, err := c.Lookup(s.ContainerID)
				if err != nil || fmt.Sprint(a.Endpoints) != fmt.Sprint(s.Endpoints) || fmt.Sprint(a.Ports) != fmt.Sprint(s.Ports) {
					t.Errorf("%+v %v, want %+v", a, err, s)
				}
			}
			taken := map[string]bool{web.Endpoints[0].IPv4.String(): true}
			for i := range 5 {
				ep := m.attach(c, Request{ContainerID: fmt.Sprint("new", i)}).Endpoints[0]
				if taken[ep.IPv4.String()] {
					t.Errorf("%s was given twice", ep.IPv4)
				}
				taken[ep.IPv4.String()] = true
			}
			if _, err := c.Attach(t.Context(), Request{ContainerID: "x", Endpoints: []EndpointRequest{{Network: "own", IPv4: own.Endpoints[0].IPv4.Addr()}}}); !errdefs.IsConflict(err) {
				t.Errorf("a live container's address: %v", err)
			}
			if _, err := c.Attach(t.Context(), Request{ContainerID: "x", Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}}}); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "container web") {
				t.Errorf("a live container's port: %v", err)
			}
			if err := c.Remove(t.Context(), "own"); !errdefs.IsConflict(err) {
				t.Errorf("a live container's network: %v", err)
			}
			for _, s := range []*Sandbox{web, own} {
				must(t, s.Close())
				must(t, c.Detach(t.Context(), s.ContainerID))
			}
		})
	}
}

// TestDamagedState: the record of a live container's network can't be read. It is found from the
// container's namespace.
func TestDamagedState(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	web := m.publishing(c)
	c.crash()
	must(t, os.WriteFile(filepath.Join(m.opts.ExecRoot, "network", "containers", "web"), []byte("{"), 0o600))
	c = m.open(Live{ContainerID: "web", NS: web.NS}, Live{ContainerID: "shares", NS: web.NS}, Live{ContainerID: "host", NS: m.host})
	for _, id := range []string{"shares", "host"} {
		if a, err := c.Lookup(id); err == nil {
			t.Errorf("%s was attached as %+v", id, a)
		}
	}
	a, err := c.Lookup("web")
	must(t, err)
	if got, want := a.Endpoints[0], web.Endpoints[0]; got.IPv4 != want.IPv4 || got.MAC.String() != want.MAC.String() || got.HostVeth != want.HostVeth || got.Gateway4 != want.Gateway4 {
		t.Errorf("%+v, want %+v", got, want)
	}
	for i := range 3 {
		s := m.attach(c, Request{ContainerID: fmt.Sprint("new", i)})
		if s.Endpoints[0].IPv4 == web.Endpoints[0].IPv4 {
			t.Errorf("%s was given twice", s.Endpoints[0].IPv4)
		}
	}
	m.reaches(m.host, TCP, web.Endpoints[0].IPv4.Addr().String()+":80", "web to "+web.Endpoints[0].Gateway4.String())
	must(t, web.Close())
	must(t, c.Detach(t.Context(), "web"))
}

// TestKill kills a process at moments in which it attaches and detaches; the next engine tidies up.
func TestKill(t *testing.T) {
	m := newMachine(t)
	for round := range 12 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), helperEnv+"=churn "+m.opts.Root+" "+m.opts.ExecRoot)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(60_000)) * time.Microsecond) // somewhere in its work
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		c := m.open()
		if left := c.Containers(c.defaultNetworkID()); len(left) != 0 {
			t.Fatalf("round %d: still attached: %v", round, left)
		}
		s, err := c.Attach(t.Context(), Request{ContainerID: "c0", Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}}})
		must(t, err)
		must(t, s.Close())
		must(t, c.Detach(t.Context(), "c0"))
		for _, n := range c.List() {
			if !n.Predefined() {
				must(t, c.Remove(t.Context(), n.ID))
			}
		}
		must(t, c.Close(t.Context()))
		m.unchanged()
	}
}

// churn is TestKill's other side.
func churn(root, execRoot string) error {
	ctx := context.Background()
	c, err := Open(ctx, Options{Root: root, ExecRoot: execRoot})
	if err != nil {
		return err
	}
	if err := c.Recover(ctx, nil); err != nil {
		return err
	}
	fmt.Print("!")
	for i := 0; ; i++ {
		name := fmt.Sprint("n", i)
		if _, err := c.Create(ctx, Spec{Name: name, EnableIPv6: i%2 == 0}); err != nil {
			return err
		}
		for j, eps := range [][]EndpointRequest{nil, {{Network: name}}, {{Network: name}, {Network: "bridge"}}} {
			id := fmt.Sprint("c", j)
			s, err := c.Attach(ctx, Request{ContainerID: id, Endpoints: eps, Ports: []PortBinding{{HostPort: uint16(8080 + j), ContainerPort: 80}, {ContainerPort: 80, Proto: UDP}}})
			if err != nil {
				return err
			}
			if err := s.Close(); err != nil {
				return err
			}
			if err := c.Detach(ctx, id); err != nil {
				return err
			}
		}
		if err := c.Remove(ctx, name); err != nil {
			return err
		}
	}
}

// TestManyAtOnce: nothing is given twice, whatever happens at the same time.
func TestManyAtOnce(t *testing.T) {
	m := newMachine(t)
	m.opts.Warm = 2
	c := m.open()
	_, err := c.Create(t.Context(), Spec{Name: "own"})
	must(t, err)
	var (
		mu   sync.Mutex
		seen = map[string]string{}
		wg   sync.WaitGroup
	)
	claim := func(what, who string) {
		mu.Lock()
		defer mu.Unlock()
		if other := seen[what]; other != "" {
			t.Errorf("%s has %s, and so has %s", who, what, other)
		}
		seen[what] = who
	}
	free := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		delete(seen, what)
	}
	for w := range 4 {
		wg.Go(func() {
			for i := range 8 {
				id := fmt.Sprintf("c-%d-%d", w, i)
				req := Request{ContainerID: id, Name: id, Ports: []PortBinding{{ContainerPort: 80}}}
				if i%2 == 0 {
					req.Endpoints = []EndpointRequest{{Network: "own"}, {Network: "bridge"}}
				}
				s, err := c.Attach(t.Context(), req)
				if err != nil {
					t.Error(err)
					return
				}
				for _, ep := range s.Endpoints {
					claim(ep.IPv4.String(), id)
				}
				claim(fmt.Sprint(s.Ports[0].HostPort), id)
				for _, ep := range s.Endpoints {
					free(ep.IPv4.String())
				}
				free(fmt.Sprint(s.Ports[0].HostPort))
				if err := c.Detach(t.Context(), id); err != nil {
					t.Error(err)
				}
				s.Close()
			}
		})
	}
	wg.Wait()
}

func TestDetachAnything(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	for _, id := range []string{"", "never", "../../etc/passwd"} {
		must(t, c.Detach(t.Context(), id))
	}
	s := m.attach(c, Request{ContainerID: "c"})
	if _, err := c.Attach(t.Context(), Request{ContainerID: "c"}); !errdefs.IsAlreadyExists(err) {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := c.Detach(t.Context(), "c"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must(t, s.Close())
	m.attach(c, Request{ContainerID: "c"})
}

func TestPhases(t *testing.T) {
	m := newMachine(t)
	c, err := Open(t.Context(), m.opts)
	must(t, err)
	if _, err := c.Attach(t.Context(), Request{ContainerID: "c"}); !errdefs.IsUnavailable(err) {
		t.Errorf("attached before Recover: %v", err)
	}
	must(t, c.Recover(t.Context(), nil))
	must(t, c.Close(t.Context()))
	must(t, c.Close(t.Context()))
	if _, err := c.Attach(t.Context(), Request{ContainerID: "c"}); !errdefs.IsUnavailable(err) {
		t.Errorf("attached after Close: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.open().Attach(ctx, Request{ContainerID: "c"}); err == nil {
		t.Error("attached though cancelled")
	}
}
