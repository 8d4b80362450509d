package engine

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/berth-engine/berth/container"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// ParsePort reads "80/tcp" or "80".
func ParsePort(s string) (container.Port, error) {
	number, protocol, ok := strings.Cut(s, "/")
	if !ok {
		protocol = "tcp"
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return container.Port{}, fmt.Errorf("invalid port %q: expected a number from 1 to 65535, as in 80/tcp: %w", s, errdefs.ErrInvalidArgument)
	}
	protocol = strings.ToLower(protocol)
	if protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
		return container.Port{}, fmt.Errorf("invalid protocol %q of port %q: one of tcp, udp, sctp: %w", protocol, s, errdefs.ErrInvalidArgument)
	}
	return container.Port{Number: uint16(n), Protocol: protocol}, nil
}

// ParseHost reads "name:address" (--add-host), where the address may be IPv6, also in brackets, and "=" may
// stand for the colon. The address is not looked at.
func ParseHost(s string) (name, addr string, err error) {
	at := strings.IndexAny(s, ":=")
	if at <= 0 || at == len(s)-1 {
		return "", "", fmt.Errorf("bad format for add-host: %q: expected NAME:ADDRESS: %w", s, errdefs.ErrInvalidArgument)
	}
	return s[:at], strings.Trim(s[at+1:], "[]"), nil
}

// ParseSignal reads "SIGTERM", "term" or "15".
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n <= 0 || n > 64 {
			return 0, fmt.Errorf("invalid signal: %s: %w", s, errdefs.ErrInvalidArgument)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	for prefix, base := range map[string]int{"SIGRTMIN": 34, "SIGRTMAX": 64} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			n, err := strconv.Atoi("0" + strings.TrimLeft(rest, "+-"))
			if strings.HasPrefix(rest, "-") {
				n = -n
			}
			if err == nil && base+n >= 34 && base+n <= 64 {
				return syscall.Signal(base + n), nil
			}
		}
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("invalid signal: %s: %w", s, errdefs.ErrInvalidArgument)
}

func matches(want, have ocispec.Platform) bool {
	return platforms.OnlyStrict(want).Match(have) || platforms.Only(want).Match(have)
}

func platformString(p ocispec.Platform) string { return platforms.FormatAll(platforms.Normalize(p)) }

func onlineCPUs() int { return runtime.NumCPU() }
