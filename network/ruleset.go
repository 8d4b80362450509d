package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The table, as `nft list table inet berth-…` shows it. Nothing in it depends on a container but the
// elements of the four maps: publishing a port adds one, and rules are only written when a network
// comes or goes.
//
//	chain guard       prerouting, before connections are tracked: nothing with a loopback address
//	                  comes in from outside (CVE-2020-8558: translation would happen before the
//	                  kernel's own check, and route_localnet on the bridges takes that check away)
//	chain incoming    prerouting: what is addressed to the host goes to chain publish
//	chain local       output: so does what the host sends to itself
//	chain publish     destination translation by map
//	chain isolate     forward: nothing enters a bridge but answers, what was published, and what comes
//	                  from the same bridge; nothing enters or leaves an internal one
//	chain masquerade  postrouting: containers leave with the host's address; the host's loopback and
//	                  a container that reaches itself or a neighbour through the host get the bridge's
//
// An accept here doesn't overrule another table's drop (nft(8), "verdict statement"); foreign.go
// deals with those.

// bridgeRules is what the table must know of a network.
type bridgeRules struct {
	Interface  string
	Subnets    []netip.Prefix
	Internal   bool
	Isolated   bool // no traffic between its own containers (OptionICC)
	Masquerade bool
}

// mapping is a published port that the kernel translates.
type mapping struct {
	Host  netip.AddrPort // unspecified: every address of that family
	To    netip.AddrPort // same family as Host
	Proto string
}

// ruleset adds the whole table to conn's batch, in place of one that may be there: the kernel changes
// from one to the other between two packets.
func (n names) ruleset(conn *nftables.Conn, bridges []bridgeRules, mappings []mapping, before forwardRecord) error {
	t := n.nftTable()
	conn.AddTable(t) // so that deleting it doesn't fail
	conn.DelTable(t)
	conn.AddTable(t)
	b := &rules{conn: conn, table: t}

	all, internal, talking := b.bridgeSets(bridges)
	idle4 := b.beforeSets("ipv4", before.V4)
	idle6 := b.beforeSets("ipv6", before.V6)
	maps := map[string]*nftables.Set{}
	for _, s := range n.portMaps() {
		maps[s.Name] = s
		var elements []nftables.SetElement
		for _, m := range mappings {
			if name, e := m.element(); name == s.Name {
				elements = append(elements, e)
			}
		}
		b.err(conn.AddSet(s, elements))
	}

	guard := b.hook("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	b.rule(guard, fromElsewhere(), loopback4(daddr), drop())
	b.rule(guard, fromElsewhere(), loopback4(saddr), drop())

	publish := b.chain("publish")
	incoming := b.hook("incoming", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	b.rule(incoming, toThisHost(), jump(publish))
	local := b.hook("local", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	b.rule(local, toThisHost(), jump(publish))
	b.rule(publish, isFamily(unix.NFPROTO_IPV4), translate4(maps[portsAt4], true))
	b.rule(publish, isFamily(unix.NFPROTO_IPV4), translate4(maps[ports4], false))
	b.rule(publish, notLoopback6(), translate6(maps[portsAt6], true))
	b.rule(publish, notLoopback6(), translate6(maps[ports6], false))

	isolate := b.hook("isolate", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	if before.V4 != nil {
		b.rule(isolate, isFamily(unix.NFPROTO_IPV4), ifname(expr.MetaKeyIIFNAME), in(idle4), ifname(expr.MetaKeyOIFNAME), in(idle4), drop())
	}
	if before.V6 != nil {
		b.rule(isolate, isFamily(unix.NFPROTO_IPV6), ifname(expr.MetaKeyIIFNAME), in(idle6), ifname(expr.MetaKeyOIFNAME), in(idle6), drop())
	}
	b.rule(isolate, bothNames(), in(talking), accept())
	b.rule(isolate, ifname(expr.MetaKeyIIFNAME), in(internal), drop())
	b.rule(isolate, ifname(expr.MetaKeyOIFNAME), in(internal), drop())
	b.rule(isolate, conntrack(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept())
	b.rule(isolate, ifname(expr.MetaKeyOIFNAME), in(all), conntrack(expr.CtKeySTATUS, ipsDstNAT), accept())
	b.rule(isolate, ifname(expr.MetaKeyOIFNAME), in(all), drop())

	masq := b.hook("masquerade", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	b.rule(masq, ifname(expr.MetaKeyOIFNAME), in(all), loopback4(saddr), masquerade())
	for _, br := range bridges {
		for _, subnet := range br.Subnets {
			from := inSubnet(saddr, subnet)
			b.rule(masq, oifIs(expr.CmpOpEq, br.Interface), from, conntrack(expr.CtKeySTATUS, ipsDstNAT), masquerade())
			if br.Masquerade && !br.Internal {
				b.rule(masq, oifIs(expr.CmpOpNeq, br.Interface), from, masquerade())
			}
		}
	}
	return b.failed
}

// Names of the maps: for ports of every address, and of one.
const (
	ports4   = "ports4"
	portsAt4 = "ports4at"
	ports6   = "ports6"
	portsAt6 = "ports6at"
)

func (n names) nftTable() *nftables.Table {
	return &nftables.Table{Name: n.table, Family: nftables.TableFamilyINet}
}

func (n names) portMaps() []*nftables.Set {
	t := n.nftTable()
	make := func(name string, id uint32, data nftables.SetDatatype, key ...nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{
			Table: t, Name: name, ID: id, IsMap: true, Concatenation: true,
			KeyType:  nftables.MustConcatSetType(append(key, nftables.TypeInetProto, nftables.TypeInetService)...),
			DataType: nftables.MustConcatSetType(data, nftables.TypeInetService),
		}
	}
	return []*nftables.Set{
		make(ports4, firstSetID, nftables.TypeIPAddr),
		make(portsAt4, firstSetID+1, nftables.TypeIPAddr, nftables.TypeIPAddr),
		make(ports6, firstSetID+2, nftables.TypeIP6Addr),
		make(portsAt6, firstSetID+3, nftables.TypeIP6Addr, nftables.TypeIP6Addr),
	}
}

// Sets need numbers within a batch. Ours are fixed: the library's own come from a variable that all
// connections of a process share without a lock.
const firstSetID = 1000

// element returns the name of the map that m belongs to, and its element. Each part of a
// concatenation fills whole registers of 4 bytes.
func (m mapping) element() (string, nftables.SetElement) {
	name := map[bool]string{true: ports4, false: ports6}[m.Host.Addr().Is4()]
	var key []byte
	if !m.Host.Addr().IsUnspecified() {
		name += "at"
		key = m.Host.Addr().AsSlice()
	}
	key = append(key, protocol(m.Proto), 0, 0, 0)
	key = append(append(key, binaryutil.BigEndian.PutUint16(m.Host.Port())...), 0, 0)
	val := append(m.To.Addr().AsSlice(), binaryutil.BigEndian.PutUint16(m.To.Port())...)
	return name, nftables.SetElement{Key: key, Val: append(val, 0, 0)}
}

func protocol(proto string) byte {
	if proto == UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// rules collects a table's parts; the first error stays.
type rules struct {
	conn   *nftables.Conn
	table  *nftables.Table
	sets   uint32
	failed error
}

func (b *rules) err(err error) {
	if b.failed == nil {
		b.failed = err
	}
}

func (b *rules) set(name string, key nftables.SetDatatype, elements []nftables.SetElement) *nftables.Set {
	b.sets++
	s := &nftables.Set{Table: b.table, Name: name, ID: firstSetID + 100 + b.sets, KeyType: key, KeyByteOrder: binaryutil.NativeEndian}
	s.Concatenation = key.Bytes > nftables.TypeIFName.Bytes
	b.err(b.conn.AddSet(s, elements))
	return s
}

// bridgeSets returns the sets of all bridges, of the internal ones, and of the pairs (in, out) of
// those whose own containers may talk. Only with br_netfilter, or through the host, does such
// traffic come to where the pairs are looked for.
func (b *rules) bridgeSets(bridges []bridgeRules) (all, internal, talking *nftables.Set) {
	var names, inside []string
	var pairs []nftables.SetElement
	for _, br := range bridges {
		names = append(names, br.Interface)
		if br.Internal {
			inside = append(inside, br.Interface)
		}
		if !br.Isolated {
			pairs = append(pairs, nftables.SetElement{Key: slices.Concat(ifnameKey(br.Interface), ifnameKey(br.Interface))})
		}
	}
	return b.set("bridges", nftables.TypeIFName, ifnames(names)),
		b.set("internal", nftables.TypeIFName, ifnames(inside)),
		b.set("talking", nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName), pairs)
}

// beforeSets writes down what forwarding was before, for other engines to read, and returns the set
// of interfaces that did not forward. Names that begin with "/" are no interfaces'.
func (b *rules) beforeSets(family string, before *forwardedBefore) (idle *nftables.Set) {
	if before == nil {
		return nil
	}
	router := append([]string{wasOff}, before.Router...)
	if before.Redirects {
		router = append(router, hadRedirects)
	}
	b.set(setRouter+family, nftables.TypeIFName, ifnames(router))
	b.set(setRA+family, nftables.TypeIFName, ifnames(before.RA))
	return b.set(setIdle+family, nftables.TypeIFName, ifnames(before.Idle))
}

// Names of the sets that beforeSets writes, without the family, and of what is in them.
const (
	setIdle, setRouter, setRA = "idle-", "router-", "advertised-"

	wasOff, hadRedirects = "/off", "/redirects"
)

// readBefore reads what beforeSets wrote to a table, nil if it did not.
func readBefore(conn *nftables.Conn, t *nftables.Table, family string) (*forwardedBefore, error) {
	router, err := readNames(conn, t, setRouter+family)
	if err != nil || !slices.Contains(router, wasOff) {
		return nil, err
	}
	b := &forwardedBefore{Redirects: slices.Contains(router, hadRedirects)}
	b.Router = slices.DeleteFunc(router, func(name string) bool { return name[0] == '/' })
	if b.RA, err = readNames(conn, t, setRA+family); err != nil {
		return nil, err
	}
	b.Idle, err = readNames(conn, t, setIdle+family)
	return b, err
}

// readNames returns the names of interfaces in a set, none where there is no such set.
func readNames(conn *nftables.Conn, t *nftables.Table, set string) (names []string, err error) {
	s, err := conn.GetSetByName(t, set)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read set %s of table %s: %w", set, t.Name, err)
	}
	elements, err := conn.GetSetElements(s)
	for _, e := range elements {
		names = append(names, unix.ByteSliceToString(e.Key))
	}
	return names, err
}

func (b *rules) chain(name string) *nftables.Chain {
	return b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table})
}

func (b *rules) hook(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
	return b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: kind, Hooknum: hook, Priority: prio})
}

func (b *rules) rule(c *nftables.Chain, parts ...[]expr.Any) {
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: c, Exprs: slices.Concat(parts...)})
}

// Registers of 4 bytes (linux/netfilter/nf_tables.h); reg+4 of them hold an IPv6 address or the name
// of an interface.
const reg = unix.NFT_REG32_00

// ipsDstNAT is IPS_DST_NAT of the kernel's connection tracking: the destination was translated.
const ipsDstNAT = 1 << 5

// end says which address of a packet is meant.
type end int

const (
	saddr end = iota
	daddr
)

func (e end) load4(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 12 + 4*uint32(e), Len: 4}
}

func (e end) load6(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 8 + 16*uint32(e), Len: 16}
}

func isFamily(nfproto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{nfproto}},
	}
}

func inSubnet(e end, p netip.Prefix) []expr.Any {
	addr := p.Masked().Addr()
	nfproto, load := byte(unix.NFPROTO_IPV4), e.load4(reg)
	if addr.Is6() {
		nfproto, load = unix.NFPROTO_IPV6, e.load6(reg)
	}
	length := uint32(addr.BitLen() / 8)
	mask := make([]byte, length)
	for bit := range p.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return append(isFamily(nfproto), load,
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: length, Mask: mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: addr.AsSlice()})
}

func loopback4(e end) []expr.Any { return inSubnet(e, netip.MustParsePrefix("127.0.0.0/8")) }

// notLoopback6 also says that it is IPv6: what goes to ::1 can't be translated to an address outside
// (the kernel has no route_localnet for IPv6).
func notLoopback6() []expr.Any {
	return append(isFamily(unix.NFPROTO_IPV6), daddr.load6(reg),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: netip.IPv6Loopback().AsSlice()})
}

func fromElsewhere() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: ifnameKey("lo")},
	}
}

func toThisHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

func translate4(ports *nftables.Set, withAddress bool) []expr.Any {
	var parts []expr.Any
	next := uint32(reg)
	if withAddress {
		parts, next = append(parts, daddr.load4(next)), next+1
	}
	return translate(parts, next, ports, unix.NFPROTO_IPV4, reg+1)
}

func translate6(ports *nftables.Set, withAddress bool) []expr.Any {
	var parts []expr.Any
	next := uint32(reg)
	if withAddress {
		parts, next = append(parts, daddr.load6(next)), next+4
	}
	return translate(parts, next, ports, unix.NFPROTO_IPV6, reg+4)
}

// translate appends protocol and port to a key that ends before register next, looks it up, and
// translates the destination to the address and port found.
func translate(parts []expr.Any, next uint32, ports *nftables.Set, nfproto, portRegister uint32) []expr.Any {
	return append(parts,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next},
		&expr.Payload{DestRegister: next + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: ports.Name, SetID: ports.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: nfproto, RegAddrMin: reg, RegProtoMin: portRegister, Specified: true})
}

func ifname(key expr.MetaKey) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: reg}} }

func bothNames() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg}, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg + 4}}
}

func oifIs(op expr.CmpOp, name string) []expr.Any {
	return append(ifname(expr.MetaKeyOIFNAME), &expr.Cmp{Op: op, Register: reg, Data: ifnameKey(name)})
}

func in(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID}}
}

// conntrack matches when any of bits is set in what connection tracking says under key.
func conntrack(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)},
	}
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func drop() []expr.Any   { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func masquerade() []expr.Any {
	return []expr.Any{&expr.Masq{}}
}

func jump(c *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: c.Name}}
}

func ifnameKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

func ifnames(names []string) []nftables.SetElement {
	var elements []nftables.SetElement
	for _, n := range names {
		elements = append(elements, nftables.SetElement{Key: ifnameKey(n)})
	}
	return elements
}
