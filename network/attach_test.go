package network

import (
	"os"
	"testing"

	"github.com/berth-engine/berth/internal/testroot"
)

func TestAttachDefault(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	s := m.attach(c, Request{ContainerID: "c1", Name: "web", Ports: []PortBinding{{HostPort: 8080, ContainerPort: 80}}})
	ep := s.Endpoints[0]
	m.serve(s.NS, TCP, ":80", "web")
	m.reaches(m.host, TCP, ep.IPv4.Addr().String()+":80", "web to "+ep.Gateway4.String())
	m.reaches(m.host, TCP, "127.0.0.1:8080", "web to "+ep.Gateway4.String())
	m.reaches(m.host, TCP, hostAddr.String()+":8080", "web to "+hostAddr.String())
}

func BenchmarkAttach(b *testing.B) {
	m := newMachine(b)
	for _, bench := range []struct {
		name  string
		warm  int
		ports []PortBinding
	}{
		{"cold", -1, nil},
		{"warm", 2, nil},
		{"warm, one port", 2, []PortBinding{{HostPort: 8080, ContainerPort: 80}}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			m.opts.Warm = bench.warm
			if dir, err := os.MkdirTemp("/dev/shm", testroot.Prefix); err == nil { // a tmpfs, as the real one
				m.opts.ExecRoot = dir
				b.Cleanup(func() { os.RemoveAll(dir) })
			}
			c, err := Open(b.Context(), m.opts)
			must(b, err)
			must(b, c.Recover(b.Context(), nil))
			s, err := c.Attach(b.Context(), Request{ContainerID: "first"})
			must(b, err)
			s.Close()
			must(b, c.Detach(b.Context(), "first"))
			for b.Loop() {
				b.StopTimer()
				poll(func() bool { return !c.ready.missing() || bench.warm < 0 })
				b.StartTimer()
				s, err := c.Attach(b.Context(), Request{ContainerID: "c", Ports: bench.ports})
				must(b, err)
				b.StopTimer()
				s.Close()
				must(b, c.Detach(b.Context(), "c"))
				b.StartTimer()
			}
			must(b, c.Close(b.Context()))
		})
	}
}
