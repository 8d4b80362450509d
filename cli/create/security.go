package create

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/berth-engine/berth/cli/client"
)

func checkAttach(v string) (string, error) {
	switch s := strings.ToLower(v); s {
	case "stdin", "stdout", "stderr":
		return s, nil
	}
	return "", fmt.Errorf("%q is no stream: there are STDIN, STDOUT and STDERR", v)
}

func checkLabel(v string) (string, error) {
	name, _, _ := strings.Cut(v, "=")
	name = strings.TrimLeft(name, " \t")
	if name == "" {
		return "", fmt.Errorf("%q has no name", v)
	}
	if strings.ContainsAny(name, " \t") {
		return "", fmt.Errorf("the name %q has white space in it", name)
	}
	return v, nil
}

// checkSysctl lets through what is a namespace's own.
func checkSysctl(v string) error {
	name, _, ok := strings.Cut(v, "=")
	switch {
	case !ok || name == "":
		return fmt.Errorf("%q is not name=value", v)
	case strings.HasPrefix(name, "net."), strings.HasPrefix(name, "fs.mqueue."):
		return nil
	}
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return nil
	}
	return fmt.Errorf("%s is not a container's own: setting it would change the host", name)
}

// checkDeviceRule reads "c 1:3 rwm": kind (a, b, c), numbers or *, permissions.
func checkDeviceRule(v string) (string, error) {
	bad := fmt.Errorf("%q is not a rule such as \"c 1:3 rwm\"", v)
	parts := strings.Split(v, " ")
	if len(parts) != 3 || len(parts[0]) != 1 || strings.IndexByte("abc", parts[0][0]) < 0 {
		return "", bad
	}
	major, minor, ok := strings.Cut(parts[1], ":")
	if !ok || !numberOrStar(major) || !numberOrStar(minor) || !validMode(parts[2]) {
		return "", bad
	}
	return v, nil
}

func numberOrStar(v string) bool {
	return v == "*" || (v != "" && strings.Trim(v, "0123456789") == "")
}

// validMode tells whether v is made of r, w and m, each at most once.
func validMode(v string) bool {
	return v != "" && strings.Trim(v, "rwm") == "" && strings.Count(v, "r") <= 1 && strings.Count(v, "w") <= 1 && strings.Count(v, "m") <= 1
}

// parseDevices reads host[:container][:mode], and vendor.com/class=name, which is a request to CDI.
func parseDevices(values []string) ([]client.DeviceMapping, []client.DeviceRequest, error) {
	mappings := []client.DeviceMapping{}
	var cdi []string
	for _, v := range values {
		if isCDI(v) {
			cdi = append(cdi, v)
			continue
		}
		m, err := parseDevice(v)
		if err != nil {
			return nil, nil, fmt.Errorf("invalid --device %q: %w", v, err)
		}
		mappings = append(mappings, m)
	}
	if cdi == nil {
		return mappings, nil, nil
	}
	return mappings, []client.DeviceRequest{{Driver: "cdi", DeviceIDs: cdi}}, nil
}

// isCDI tells a qualified device name, vendor/class=name, from a path.
func isCDI(v string) bool {
	kind, name, ok := strings.Cut(v, "=")
	vendor, class, ok2 := strings.Cut(kind, "/")
	return ok && ok2 && name != "" && vendor != "" && class != "" && !strings.Contains(class, "/")
}

func parseDevice(v string) (client.DeviceMapping, error) {
	parts := strings.Split(v, ":")
	d := client.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
	switch {
	case parts[0] == "":
		return d, fmt.Errorf("the device is missing")
	case len(parts) > 3:
		return d, fmt.Errorf("too many colons")
	case len(parts) == 3:
		d.PathInContainer, d.CgroupPermissions = parts[1], parts[2]
		if !validMode(parts[2]) {
			return d, fmt.Errorf("%q is not made of r, w and m", parts[2])
		}
	case len(parts) == 2 && validMode(parts[1]):
		d.PathOnHost, d.PathInContainer, d.CgroupPermissions = path.Clean(parts[0]), path.Clean(parts[0]), parts[1]
	case len(parts) == 2:
		d.PathInContainer = path.Clean(parts[1])
	default:
		d.PathOnHost, d.PathInContainer = path.Clean(parts[0]), path.Clean(parts[0])
	}
	if !path.IsAbs(d.PathInContainer) {
		return d, fmt.Errorf("%q is not an absolute path", d.PathInContainer)
	}
	return d, nil
}

// capabilities writes names in one way ("net_admin" is CAP_NET_ADMIN), sorted, each once.
func capabilities(names []string) []string {
	var out []string
	for _, c := range names {
		c = strings.ToUpper(strings.TrimSpace(c))
		if c != "ALL" && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		out = append(out, c)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// securityOptions reads the seccomp profile's file, and takes out systempaths, which the request
// says in fields of its own.
func securityOptions(values []string) (options []string, systemPaths string, err error) {
	if len(values) > 0 {
		options = []string{}
	}
	for _, v := range values {
		name, value, ok := strings.Cut(v, "=")
		if !ok && name != "no-new-privileges" {
			name, value, ok = strings.Cut(v, ":")
		}
		if (!ok || value == "") && name != "no-new-privileges" {
			return nil, "", fmt.Errorf("invalid --security-opt %q: it is not name=value", v)
		}
		switch {
		case v == "systempaths=unconfined":
			systemPaths = value
			continue
		case name == "seccomp" && value != "unconfined" && value != "builtin":
			profile, err := os.ReadFile(value)
			if err != nil {
				return nil, "", fmt.Errorf("invalid --security-opt %q: %w", v, err)
			}
			var b bytes.Buffer
			if err := json.Compact(&b, profile); err != nil {
				return nil, "", fmt.Errorf("invalid --security-opt %q: %s is not JSON: %w", v, value, err)
			}
			v = "seccomp=" + b.String()
		}
		options = append(options, v)
	}
	return options, systemPaths, nil
}
