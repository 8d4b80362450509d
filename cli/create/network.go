package create

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"github.com/berth-engine/berth/cli/client"
)

// attachment is one --network.
type attachment struct {
	name     string
	endpoint client.Endpoint
}

// networks are the values of --network, short (NAME) or long (name=NAME,alias=A,ip=1.2.3.4).
type networks []attachment

func (n *networks) Type() string   { return "network" }
func (n *networks) String() string { return "" }

func (n *networks) Set(v string) error {
	if !strings.Contains(v, "=") {
		*n = append(*n, attachment{name: v})
		return nil
	}
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return err
	}
	var a attachment
	for _, field := range fields {
		if err := a.set(field); err != nil {
			return err
		}
	}
	if a.name == "" {
		return errors.New("the network's name is missing (name=NAME)")
	}
	*n = append(*n, a)
	return nil
}

func (a *attachment) set(field string) error {
	key, value, ok := strings.Cut(strings.ToLower(field), "=")
	if !ok || key == "" {
		return fmt.Errorf("%q is not name=value", field)
	}
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	e := &a.endpoint
	switch key {
	case "name":
		a.name = value
	case "alias":
		e.Aliases = append(e.Aliases, value)
	case "ip", "ip6", "link-local-ip":
		addr, err := netip.ParseAddr(value)
		if err != nil {
			return fmt.Errorf("%s: %q is not an IP address", key, value)
		}
		switch key {
		case "ip":
			ipam(e).IPv4Address = addr.String()
		case "ip6":
			ipam(e).IPv6Address = addr.String()
		default:
			ipam(e).LinkLocalIPs = append(ipam(e).LinkLocalIPs, addr.String())
		}
	case "mac-address":
		e.MacAddress = value
	case "driver-opt":
		name, v, ok := strings.Cut(value, "=")
		if !ok || name == "" {
			return fmt.Errorf("driver-opt: %q is not name=value", value)
		}
		if e.DriverOpts == nil {
			e.DriverOpts = map[string]string{}
		}
		e.DriverOpts[strings.TrimSpace(name)] = strings.TrimSpace(v)
	case "gw-priority":
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("gw-priority: %q is not a whole number", value)
		}
		e.GwPriority = n
	default:
		return fmt.Errorf("unknown option %q", key)
	}
	return nil
}

// mode is the network mode of the host configuration: the first network.
func (n networks) mode() string {
	if len(n) == 0 {
		return "default"
	}
	return n[0].name
}

// userDefined tells whether a network has a name of its own, in contrast to Docker's modes.
func userDefined(name string) bool {
	switch name {
	case "default", "bridge", "host", "none":
		return false
	}
	return !strings.HasPrefix(name, "container:") && name != "container"
}

// endpoints are the places in networks. The flags without a network in them (--ip, --network-alias,
// --mac-address…) belong to the first one.
func (f *Flags) endpoints() (map[string]*client.Endpoint, error) {
	if len(f.networks) == 0 {
		a := attachment{name: "default"}
		if err := f.merge(&a); err != nil {
			return nil, err
		}
		return map[string]*client.Endpoint{"default": &a.endpoint}, nil
	}
	out := map[string]*client.Endpoint{}
	own, docker := 0, 0
	for i, a := range f.networks {
		if userDefined(a.name) {
			own++
		} else {
			docker++
		}
		if i == 0 {
			if err := f.merge(&a); err != nil {
				return nil, err
			}
		}
		if err := a.check(); err != nil {
			return nil, err
		}
		if out[a.name] != nil {
			return nil, fmt.Errorf("the network %q is given twice", a.name)
		}
		if len(f.networks) == 1 && reflect.ValueOf(a.endpoint).IsZero() {
			break // the mode says it all
		}
		out[a.name] = &a.endpoint
	}
	if own > 0 && docker > 0 {
		return nil, errors.New("a container cannot be in a network of yours and in bridge, host or none at once")
	}
	return out, nil
}

func (a *attachment) check() error {
	if strings.TrimSpace(a.name) == "" {
		return errors.New("invalid --network \"\": it names no network")
	}
	if !userDefined(a.name) && len(a.endpoint.Aliases) > 0 {
		return fmt.Errorf("aliases are only for networks that you made, %s is none", a.name)
	}
	if a.endpoint.MacAddress != "" {
		if _, err := net.ParseMAC(strings.TrimSpace(a.endpoint.MacAddress)); err != nil {
			return fmt.Errorf("%q is not a MAC address", a.endpoint.MacAddress)
		}
	}
	return nil
}

// merge adds the flags that name no network.
func (f *Flags) merge(a *attachment) error {
	e := &a.endpoint
	for flag, both := range map[string]bool{
		"--network-alias": len(e.Aliases) > 0 && len(f.aliases.values) > 0,
		"--ip":            e.IPAMConfig != nil && e.IPAMConfig.IPv4Address != "" && f.ip != nil,
		"--ip6":           e.IPAMConfig != nil && e.IPAMConfig.IPv6Address != "" && f.ip6 != nil,
		"--link-local-ip": e.IPAMConfig != nil && len(e.IPAMConfig.LinkLocalIPs) > 0 && len(f.linkLocalIPs.values) > 0,
		"--mac-address":   e.MacAddress != "" && f.mac != "",
	} {
		if both {
			return fmt.Errorf("%s is given twice: once by itself and once in --network", flag)
		}
	}
	if len(f.aliases.values) > 0 {
		e.Aliases = f.aliases.values
	}
	if userDefined(a.name) && len(f.links.values) > 0 {
		e.Links = f.links.values
	}
	if f.ip != nil {
		ipam(e).IPv4Address = f.ip.String()
	}
	if f.ip6 != nil {
		ipam(e).IPv6Address = f.ip6.String()
	}
	if len(f.linkLocalIPs.values) > 0 {
		ipam(e).LinkLocalIPs = f.linkLocalIPs.values
	}
	if f.mac != "" {
		e.MacAddress = f.mac
	}
	return a.check()
}

func ipam(e *client.Endpoint) *client.EndpointIPAM {
	if e.IPAMConfig == nil {
		e.IPAMConfig = &client.EndpointIPAM{}
	}
	return e.IPAMConfig
}

// Host reads name:address or name=address, as --add-host has it, and returns name:address. The address
// may be in brackets, or host-gateway.
func Host(v string) (string, error) {
	name, ip, ok := strings.Cut(v, "=")
	if !ok {
		name, ip, ok = strings.Cut(v, ":")
	}
	if !ok || name == "" {
		return "", fmt.Errorf("%q is not host:address", v)
	}
	if len(ip) > 2 && ip[0] == '[' && ip[len(ip)-1] == ']' {
		ip = ip[1 : len(ip)-1]
	}
	if ip != "host-gateway" && net.ParseIP(strings.TrimSpace(ip)) == nil {
		return "", fmt.Errorf("%q is not an IP address", ip)
	}
	return name + ":" + ip, nil
}

func checkAddress(v string) (string, error) {
	ip := net.ParseIP(strings.TrimSpace(v))
	if ip == nil {
		return "", fmt.Errorf("%q is not an IP address", v)
	}
	return ip.String(), nil
}

// checkSearch reads a domain name, or "." for none.
func checkSearch(v string) (string, error) {
	v = strings.TrimSpace(v)
	if v == "." {
		return v, nil
	}
	name := strings.TrimSuffix(v, ".")
	letter := false
	for _, label := range strings.Split(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return "", fmt.Errorf("%q is not a domain name", v)
		}
		for _, c := range label {
			alpha := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
			letter = letter || alpha
			if !alpha && (c < '0' || c > '9') && c != '-' {
				return "", fmt.Errorf("%q is not a domain name", v)
			}
		}
	}
	if !letter || len(name) >= 255 {
		return "", fmt.Errorf("%q is not a domain name", v)
	}
	return name, nil
}

func checkLink(v string) (string, error) {
	if v == "" || strings.Count(v, ":") > 1 {
		return "", fmt.Errorf("%q is not container:alias", v)
	}
	return v, nil
}
