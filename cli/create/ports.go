package create

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/berth-engine/berth/cli/client"
)

// maxExposed bounds the ports that one command line may name: a range is one word, and each of its
// ports an entry of the request.
const maxExposed = 1 << 17

// ports reads --publish and --expose: what is exposed ("80/tcp"), and where it is published.
func ports(publish, expose []string) (map[string]struct{}, map[string][]client.PortBinding, error) {
	exposed, published := map[string]struct{}{}, map[string][]client.PortBinding{}
	for _, v := range publish {
		if err := addPublished(published, v); err != nil {
			return nil, nil, fmt.Errorf("invalid --publish %q: %w", v, err)
		}
		if len(published) > maxExposed {
			return nil, nil, fmt.Errorf("--publish names more than %d ports", maxExposed)
		}
	}
	for p := range published {
		exposed[p] = struct{}{}
	}
	for _, v := range expose {
		port, proto, err := splitProto(v)
		if err != nil {
			return nil, nil, fmt.Errorf("invalid --expose %q: %w", v, err)
		}
		first, last, err := portRange(port)
		if err != nil {
			return nil, nil, fmt.Errorf("invalid --expose %q: %w", v, err)
		}
		for p := first; p <= last; p++ {
			exposed[strconv.Itoa(p)+"/"+proto] = struct{}{}
		}
	}
	return exposed, published, nil
}

// addPublished reads [address:][host:]container[/protocol], or published=,target=,protocol=.
func addPublished(published map[string][]client.PortBinding, v string) error {
	if strings.Contains(v, "=") {
		var err error
		if v, err = longPublish(v); err != nil {
			return err
		}
	}
	ip, host, container := splitPublish(v)
	container, proto, err := splitProto(container)
	if err != nil {
		return err
	}
	if strings.HasPrefix(ip, "[") && strings.HasSuffix(ip, "]") {
		ip = ip[1 : len(ip)-1]
	}
	if ip != "" && net.ParseIP(ip) == nil {
		return fmt.Errorf("%q is not an IP address", ip)
	}
	if container == "" {
		return errors.New("the container's port is missing")
	}
	first, last, err := portRange(container)
	if err != nil {
		return err
	}
	var hostFirst, hostLast int
	if host != "" {
		if hostFirst, hostLast, err = portRange(host); err != nil {
			return err
		}
		// Several host ports for one of the container's: the engine chooses one of them.
		if hostLast-hostFirst != last-first && first != last {
			return fmt.Errorf("%s and %s are ranges of different length", host, container)
		}
	}
	for p := first; p <= last; p++ {
		hostPort := ""
		switch {
		case host == "":
		case first == last && hostFirst != hostLast:
			hostPort = strconv.Itoa(hostFirst) + "-" + strconv.Itoa(hostLast)
		default:
			hostPort = strconv.Itoa(hostFirst + p - first)
		}
		key := strconv.Itoa(p) + "/" + proto
		published[key] = append(published[key], client.PortBinding{HostIP: ip, HostPort: hostPort})
	}
	return nil
}

func longPublish(v string) (string, error) {
	params := map[string]string{"protocol": "tcp"}
	for _, param := range strings.Split(v, ",") {
		name, value, ok := strings.Cut(param, "=")
		if !ok || name == "" {
			return "", fmt.Errorf("%q is not name=value", param)
		}
		params[name] = value
	}
	return params["published"] + ":" + params["target"] + "/" + params["protocol"], nil
}

// splitPublish cuts at the last two colons: what is before them is an address, which may have its own.
func splitPublish(v string) (ip, host, container string) {
	parts := strings.Split(v, ":")
	n := len(parts)
	switch n {
	case 1:
		return "", "", parts[0]
	case 2:
		return "", parts[0], parts[1]
	}
	return strings.Join(parts[:n-2], ":"), parts[n-2], parts[n-1]
}

func splitProto(v string) (port, proto string, err error) {
	port, proto, _ = strings.Cut(v, "/")
	if proto = strings.ToLower(proto); proto == "" {
		proto = "tcp"
	}
	if proto != "tcp" && proto != "udp" && proto != "sctp" {
		return "", "", fmt.Errorf("unknown protocol %q: it can be tcp, udp or sctp", proto)
	}
	return port, proto, nil
}

func portRange(v string) (first, last int, err error) {
	a, b, isRange := strings.Cut(v, "-")
	if !isRange {
		b = a
	}
	if first, err = port(a); err != nil {
		return 0, 0, err
	}
	if last, err = port(b); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("the range %s ends before it begins", v)
	}
	return first, last, nil
}

func port(v string) (int, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a port", v)
	}
	return int(n), nil
}
