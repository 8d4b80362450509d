package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host is the network namespace that the engine runs in.
type host struct {
	ns    *os.File
	*rtnl // for changes
	dumps *netlink.Handle

	filterMu sync.Mutex
	filter   *os.File // dropLoopback, loaded; nil before it is needed; guarded by filterMu
}

func openHost() (_ *host, err error) {
	h := &host{}
	if h.ns, err = os.Open("/proc/self/ns/net"); err != nil {
		return nil, err
	}
	if h.rtnl, err = openRtnl(); err != nil {
		return nil, errors.Join(err, h.ns.Close())
	}
	if h.dumps, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		h.rtnl.close()
		return nil, errors.Join(fmt.Errorf("open a netlink socket: %w", err), h.ns.Close())
	}
	return h, nil
}

func (h *host) close() error {
	if h.filter != nil {
		h.filter.Close()
	}
	h.rtnl.close()
	h.dumps.Close()
	return h.ns.Close()
}

// route is a subnet that the host reaches through an interface.
type route struct {
	to        netip.Prefix
	linkIndex int
}

// routes returns every route of the host but the default ones, of every table but those for the
// host's own addresses.
func (h *host) routes() ([]route, error) {
	var all []route
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		found, err := dump(func() ([]netlink.Route, error) {
			return h.dumps.RouteListFiltered(fam, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("list the host's routes: %w", err)
		}
		for _, r := range found {
			if r.Dst == nil || r.Table == unix.RT_TABLE_LOCAL {
				continue
			}
			addr, ok := netip.AddrFromSlice(r.Dst.IP)
			bits, _ := r.Dst.Mask.Size()
			if ok && bits > 0 {
				all = append(all, route{netip.PrefixFrom(addr.Unmap(), bits), r.LinkIndex})
			}
		}
	}
	return all, nil
}

// links returns the host's interfaces.
func (h *host) links() ([]netlink.Link, error) {
	found, err := dump(h.dumps.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list the host's interfaces: %w", err)
	}
	return found, nil
}

// dump repeats a listing during which something changed, a few times.
func dump[T any](list func() ([]T, error)) (found []T, err error) {
	for range 10 {
		if found, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return found, err
		}
	}
	return found, nil // a part of it may be twice or old: better than nothing on a host in turmoil
}

func isOwnVeth(n names, l netlink.Link) bool {
	return l.Type() == "veth" && strings.HasPrefix(l.Attrs().Name, n.vethPrefix())
}

func isOwnBridge(n names, l netlink.Link) bool {
	return l.Type() == "bridge" && l.Attrs().Group == n.bridgeGroup()
}
