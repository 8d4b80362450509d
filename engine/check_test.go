package engine

import (
	"strings"
	"testing"

	"github.com/berth-engine/berth/container"
	"github.com/containerd/errdefs"
)

func TestCheckSharing(t *testing.T) {
	joined := func(n container.Network) container.Config {
		n.Mode = "container:other"
		return container.Config{Network: n}
	}
	port := container.Port{Number: 80, Protocol: "tcp"}
	for name, c := range map[string]struct {
		config container.Config
		want   string // "": accepted
	}{
		"joined":           {joined(container.Network{}), ""},
		"hostname":         {joined(container.Network{Hostname: "x"}), "hostname and the network mode"},
		"dns":              {joined(container.Network{DNS: []string{"1.1.1.1"}}), "dns and the network mode"},
		"hosts":            {joined(container.Network{ExtraHosts: []string{"a:1.1.1.1"}}), "custom host-to-IP mapping"},
		"publish":          {joined(container.Network{Published: []container.Publish{{Port: port}}}), "port publishing"},
		"publish all":      {joined(container.Network{PublishAll: true}), "port publishing"},
		"expose":           {joined(container.Network{Exposed: []container.Port{port}}), "port exposing"},
		"mac":              {container.Config{Network: container.Network{Mode: "host", Endpoints: []container.Endpoint{{MAC: "02:42:00:00:00:01"}}}}, "mac-address and the network mode"},
		"host's UTS":       {container.Config{Isolation: container.Isolation{UTSMode: "host"}, Network: container.Network{Mode: "bridge", Hostname: "x"}}, "hostname and the UTS mode"},
		"host":             {container.Config{Network: container.Network{Mode: "host", Hostname: "x", DNS: []string{"1.1.1.1"}}}, ""},
		"bridge, all told": {container.Config{Network: container.Network{Mode: "bridge", Hostname: "x", Exposed: []container.Port{port}, PublishAll: true}}, ""},
	} {
		err := checkSharing(&c.config)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
