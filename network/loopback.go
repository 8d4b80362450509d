package network

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// guardLoopback makes the host drop what comes out of a container with a loopback address: with
// route_localnet on the bridge, the kernel would take it for what the host sends to itself, and
// services that listen on 127.0.0.1 would be open to containers. Chain guard does the same; but a
// `flush ruleset` of somebody's takes that away until it is written again, and route_localnet stays. A
// classifier on the interface goes only with it. It can't be on the bridge: with br_netfilter, answers
// to what the host sent from 127.0.0.1 have that address there already.
func (h *host) guardLoopback(index int) error {
	program, err := h.loopbackFilter()
	if err != nil {
		return fmt.Errorf("load a packet filter: %w", err)
	}
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := h.dumps.QdiscAdd(qdisc); err != nil {
		return fmt.Errorf("add a classifier: %w", err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL,
		},
		Fd: int(program.Fd()), Name: "berth-loopback", DirectAction: true,
	}
	if err := h.dumps.FilterAdd(filter); err != nil {
		return fmt.Errorf("add a packet filter: %w", err)
	}
	return nil
}

func (h *host) loopbackFilter() (_ *os.File, err error) {
	h.filterMu.Lock()
	defer h.filterMu.Unlock()
	if h.filter == nil {
		h.filter, err = loadProgram(dropLoopback())
	}
	return h.filter, err
}

// Instructions of BPF (linux/bpf.h, linux/bpf_common.h) as far as dropLoopback needs them.
const (
	bpfLoadWord    = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	bpfPacketByte  = unix.BPF_LD | unix.BPF_ABS | unix.BPF_B // into r0; r6 is the context
	bpfMove        = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X
	bpfMoveConst   = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
	bpfJumpEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfJumpUnequal = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K
	bpfExit        = unix.BPF_JMP | unix.BPF_EXIT

	skbProtocol   = 16 // offset in struct __sk_buff, in network order
	networkHeader = -0x100000
	actContinue   = -1 // TC_ACT_UNSPEC
	actDrop       = 2  // TC_ACT_SHOT
)

// dropLoopback is a classifier that drops IPv4 packets from or to 127.0.0.0/8.
func dropLoopback() []byte {
	type insn struct {
		code     byte
		dst, src byte
		off      int16
		imm      int32
	}
	ipv4 := int32(binary.NativeEndian.Uint16([]byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff}))
	const r0, r1, r6 = 0, 1, 6
	var b []byte
	for _, i := range []insn{
		{bpfMove, r6, r1, 0, 0},
		{bpfLoadWord, r0, r6, skbProtocol, 0},
		{bpfJumpUnequal, r0, 0, 4, ipv4}, // to "continue"
		{bpfPacketByte, 0, 0, 0, networkHeader + 16},
		{bpfJumpEqual, r0, 0, 4, 127}, // to "drop"
		{bpfPacketByte, 0, 0, 0, networkHeader + 12},
		{bpfJumpEqual, r0, 0, 2, 127}, // to "drop"
		{bpfMoveConst, r0, 0, 0, actContinue},
		{bpfExit, 0, 0, 0, 0},
		{bpfMoveConst, r0, 0, 0, actDrop},
		{bpfExit, 0, 0, 0, 0},
	} {
		b = append(b, i.code, i.src<<4|i.dst) // little endian machines; the fields are swapped on others
		b = binary.NativeEndian.AppendUint16(b, uint16(i.off))
		b = binary.NativeEndian.AppendUint32(b, uint32(i.imm))
	}
	return b
}
