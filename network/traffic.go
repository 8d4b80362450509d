package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
)

// Traffic is what went through a container's interface since it was made, as the container sees it.
type Traffic struct {
	Interface                               string // eth0, …
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Traffic returns the counters of an attached container's interfaces, none where it has the host's
// network or none. It reads them at the host's end: what goes in there comes out in the container.
// Error: not found.
func (c *Controller) Traffic(ctx context.Context, containerID string) ([]Traffic, error) {
	end, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	a, err := c.Lookup(containerID)
	if err != nil {
		return nil, err
	}
	var all []Traffic
	for _, ep := range a.Endpoints {
		if ep.HostVeth == "" {
			continue
		}
		link, err := c.host.dumps.LinkByName(ep.HostVeth)
		if gone := (netlink.LinkNotFoundError{}); errors.As(err, &gone) {
			continue // with its container, just now
		}
		if err != nil {
			return nil, fmt.Errorf("read the counters of %s: %w", ep.HostVeth, err)
		}
		s := link.Attrs().Statistics
		if s == nil {
			return nil, fmt.Errorf("the kernel sends no counters of %s: %w", ep.HostVeth, errdefs.ErrUnavailable)
		}
		all = append(all, Traffic{
			Interface: ep.Interface,
			RxBytes:   s.TxBytes, RxPackets: s.TxPackets, RxErrors: s.TxErrors, RxDropped: s.TxDropped,
			TxBytes: s.RxBytes, TxPackets: s.RxPackets, TxErrors: s.RxErrors, TxDropped: s.RxDropped,
		})
	}
	return all, nil
}
