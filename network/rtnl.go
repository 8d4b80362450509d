package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// rtnl is a socket to the kernel's routing tables and links (rtnetlink(7)) in the network namespace
// in which it was opened, wherever it is used from.
type rtnl struct {
	sockets map[int]*nl.SocketHandle
}

// openRtnl opens the socket in the calling thread's network namespace.
func openRtnl() (*rtnl, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	_ = s.SetExtAck(true) // only makes errors clearer
	return &rtnl{sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

func (r *rtnl) close() { r.sockets[unix.NETLINK_ROUTE].Close() }

func (r *rtnl) do(message, flags int, data ...nl.NetlinkRequestData) ([][]byte, error) {
	req := nl.NewNetlinkRequest(message, flags)
	req.Sockets = r.sockets
	for _, d := range data {
		req.AddData(d)
	}
	return req.Execute(unix.NETLINK_ROUTE, 0)
}

const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL | unix.NLM_F_ACK

// addBridge makes a bridge in a group of links (by which it is known again) that is up and passes
// frames at once.
func (r *rtnl) addBridge(name string, mac net.HardwareAddr, mtu int, group uint32) error {
	data := nl.NewRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_BR_FORWARD_DELAY, nl.Uint32Attr(0))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	info.AddChild(data)
	_, err := r.do(unix.RTM_NEWLINK, create, upInfo(0),
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)),
		nl.NewRtAttr(unix.IFLA_ADDRESS, mac),
		nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))),
		nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)),
		info)
	return err
}

// veth is a pair of interfaces: one end in the bridge, the other in a container's namespace.
type veth struct {
	host   string
	master int // index of the bridge
	inside string
	mac    net.HardwareAddr
	mtu    int
	ns     int // descriptor of the namespace that gets the inside end
}

// addVeth makes both ends at their places with one message, and the host's end up. The inside end
// can't be: the kernel would bring it up before it has its other end (ENOTCONN).
func (r *rtnl) addVeth(v veth) error {
	peer := nl.NewRtAttr(nl.VETH_INFO_PEER, nil)
	peer.AddChild(nl.NewIfInfomsg(unix.AF_UNSPEC))
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.inside))
	peer.AddRtAttr(unix.IFLA_ADDRESS, v.mac)
	peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(v.mtu)))
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(v.ns)))
	data := nl.NewRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddChild(peer)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	info.AddChild(data)
	_, err := r.do(unix.RTM_NEWLINK, create, upInfo(0),
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.host)),
		nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(v.mtu))),
		nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(v.master))),
		info)
	return err
}

// setPort says how the bridge treats one of its ports. Isolated ports get no frames of each other. In
// hairpin mode a port gets back what came from it.
func (r *rtnl) setPort(index int, isolated, hairpin bool) error {
	flag := map[bool][]byte{false: {0}, true: {1}}
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(index)
	port := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	port.AddRtAttr(nl.IFLA_BRPORT_ISOLATED, flag[isolated])
	port.AddRtAttr(nl.IFLA_BRPORT_MODE, flag[hairpin])
	_, err := r.do(unix.RTM_SETLINK, unix.NLM_F_ACK, msg, port)
	return err
}

// index finds a link. The error is ENODEV where there is none.
func (r *rtnl) index(name string) (int, error) {
	found, err := r.do(unix.RTM_GETLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if err != nil {
		return 0, err
	}
	if len(found) == 0 || len(found[0]) < unix.SizeofIfInfomsg {
		return 0, errors.New("the kernel sent no answer about a link")
	}
	return int(nl.DeserializeIfInfomsg(found[0]).Index), nil
}

func (r *rtnl) up(index int) error {
	_, err := r.do(unix.RTM_NEWLINK, unix.NLM_F_ACK, upInfo(index))
	return err
}

func (r *rtnl) down(index int) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Change = int32(index), unix.IFF_UP
	_, err := r.do(unix.RTM_NEWLINK, unix.NLM_F_ACK, msg)
	return err
}

// rename needs the link to be down.
func (r *rtnl) rename(index int, name string) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	_, err := r.do(unix.RTM_SETLINK, unix.NLM_F_ACK, msg, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	return err
}

// addAddress gives a link an address and the route to its subnet. IPv6 addresses are used at once:
// nobody else gives addresses of these subnets out, so nothing is gained by asking around first.
func (r *rtnl) addAddress(index int, p netip.Prefix) error {
	msg := nl.NewIfAddrmsg(family(p.Addr()))
	msg.Index, msg.Prefixlen = uint32(index), uint8(p.Bits())
	addr := p.Addr().AsSlice()
	attrs := []nl.NetlinkRequestData{msg, nl.NewRtAttr(unix.IFA_LOCAL, addr), nl.NewRtAttr(unix.IFA_ADDRESS, addr)}
	if p.Addr().Is4() {
		attrs = append(attrs, nl.NewRtAttr(unix.IFA_BROADCAST, lastOf(p).AsSlice()))
	} else {
		msg.IfAddrmsg.Flags = unix.IFA_F_NODAD
	}
	_, err := r.do(unix.RTM_NEWADDR, create, attrs...)
	return err
}

func (r *rtnl) addDefaultRoute(index int, gateway netip.Addr) error {
	msg := nl.NewRtMsg()
	msg.Family = uint8(family(gateway))
	_, err := r.do(unix.RTM_NEWROUTE, create, msg,
		nl.NewRtAttr(unix.RTA_GATEWAY, gateway.AsSlice()),
		nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	return err
}

func (r *rtnl) deleteLink(index int) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	_, err := r.do(unix.RTM_DELLINK, unix.NLM_F_ACK, msg)
	return err
}

// deleteLinks deletes many links as one: the kernel waits once for all of them (34 ms of RCU), not
// once for each. Those that are gone meanwhile don't matter.
func (r *rtnl) deleteLinks(group uint32, indexes []int) error {
	if len(indexes) == 0 {
		return nil
	}
	for _, i := range indexes {
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(i)
		if _, err := r.do(unix.RTM_SETLINK, unix.NLM_F_ACK, msg, nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group))); err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
	_, err := r.do(unix.RTM_DELLINK, unix.NLM_F_ACK, nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func upInfo(index int) *nl.IfInfomsg {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(index), unix.IFF_UP, unix.IFF_UP
	return msg
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
