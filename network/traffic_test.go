package network

import (
	"testing"

	"github.com/containerd/errdefs"
)

func TestTraffic(t *testing.T) {
	m := newMachine(t)
	c := m.open()
	s := m.attach(c, Request{ContainerID: "c"})
	m.serve(s.NS, TCP, ":80", "c")
	before, err := c.Traffic(t.Context(), "c")
	must(t, err)
	m.reaches(m.host, TCP, s.Endpoints[0].IPv4.Addr().String()+":80", "c to "+s.Endpoints[0].Gateway4.String())
	after, err := c.Traffic(t.Context(), "c")
	must(t, err)
	if len(before) != 1 || len(after) != 1 || after[0].Interface != "eth0" {
		t.Fatalf("%+v %+v", before, after)
	}
	// A connection is at least three packets each way: SYN, ACK and FIN.
	if after[0].RxPackets < before[0].RxPackets+3 || after[0].TxPackets < before[0].TxPackets+3 || after[0].RxBytes <= before[0].RxBytes || after[0].TxBytes <= before[0].TxBytes {
		t.Errorf("%+v, before %+v", after[0], before[0])
	}
	m.attach(c, Request{ContainerID: "h", Endpoints: []EndpointRequest{{Network: "host"}}})
	if got, err := c.Traffic(t.Context(), "h"); err != nil || len(got) != 0 {
		t.Errorf("%v %v", got, err)
	}
	if _, err := c.Traffic(t.Context(), "nobody"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}
