package network

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// socketHolder says who has a port that could not be bound: "nginx (pid 812)". It looks through
// /proc, which takes a while on a big machine, and is only asked once something failed.
func socketHolder(p Port) string {
	inodes := map[string]bool{}
	for _, table := range []string{p.Proto, p.Proto + "6"} {
		f, err := os.Open("/proc/self/net/" + table)
		if err != nil {
			continue
		}
		for scan := bufio.NewScanner(f); scan.Scan(); {
			if s, ok := parseSocket(scan.Text()); ok && s.blocks(p) {
				inodes["socket:["+s.inode+"]"] = true
			}
		}
		f.Close()
	}
	if name := processWith(inodes); name != "" {
		return name
	}
	return "another process"
}

// socket is a line of /proc/net/tcp, udp and their like.
type socket struct {
	local netip.AddrPort
	idle  bool // not connected: listening (TCP), or without a peer
	inode string
}

// parseSocket reads a line of a socket table (proc_net_tcp.rst of the kernel's documentation).
// Addresses are words of 4 bytes in the machine's order.
func parseSocket(line string) (socket, bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 {
		return socket{}, false
	}
	host, port, _ := strings.Cut(fields[1], ":")
	raw, err := hex.DecodeString(host)
	n, errPort := strconv.ParseUint(port, 16, 16)
	if err != nil || errPort != nil || len(raw) != 4 && len(raw) != 16 {
		return socket{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		raw[i], raw[i+1], raw[i+2], raw[i+3] = raw[i+3], raw[i+2], raw[i+1], raw[i]
	}
	addr, _ := netip.AddrFromSlice(raw)
	const tcpListen, closed = "0A", "07" // include/net/tcp_states.h; a bound UDP socket is "closed"
	return socket{netip.AddrPortFrom(addr.Unmap(), uint16(n)), fields[3] == tcpListen || fields[3] == closed, fields[9]}, true
}

// blocks reports whether s may be what keeps p, which is for one family only, from being bound. A
// socket of [::] may have IPv4's port too; the table doesn't say.
func (s socket) blocks(p Port) bool {
	addr := s.local.Addr()
	if !s.idle || s.local.Port() != p.HostPort {
		return false
	}
	if addr.Is4() != p.HostIP.Is4() {
		return p.HostIP.Is4() && addr.IsUnspecified()
	}
	return addr == p.HostIP || addr.IsUnspecified() || p.HostIP.IsUnspecified()
}

// processWith finds the process with the lowest number that has one of the sockets open.
func processWith(inodes map[string]bool) string {
	if len(inodes) == 0 {
		return ""
	}
	lowest := 0
	fds, _ := filepath.Glob("/proc/[0-9]*/fd")
	for _, dir := range fds {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err == nil && (lowest == 0 || pid < lowest) && hasOpen(dir, inodes) {
			lowest = pid
		}
	}
	if lowest == 0 {
		return ""
	}
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", lowest))
	name := strings.Map(func(r rune) rune { // a process chooses its name: none of it acts on a terminal
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(comm))
	return fmt.Sprintf("%s (pid %d)", name, lowest)
}

func hasOpen(fdDir string, inodes map[string]bool) bool {
	entries, err := os.ReadDir(fdDir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(fdDir, e.Name())); err == nil && inodes[to] {
			return true
		}
	}
	return false
}
