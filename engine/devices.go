package engine

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/container/bundle"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devices looks at the nodes that a container is to have: those that were named (a directory stands
// for all in it), or every one of the host's for a privileged container.
func devices(i container.Isolation) ([]specs.LinuxDevice, []specs.LinuxDeviceCgroup, error) {
	var (
		nodes []specs.LinuxDevice
		rules []specs.LinuxDeviceCgroup
	)
	for _, text := range i.DeviceRules {
		r, err := bundle.ParseDeviceRule(text)
		if err != nil {
			return nil, nil, err
		}
		rules = append(rules, r)
	}
	asked := i.Devices
	if i.Privileged {
		asked = append([]container.Device{{Host: "/dev", Container: "/dev", Permissions: "rwm"}}, asked...)
	}
	for _, d := range asked {
		found, err := nodesAt(d)
		if err != nil {
			return nil, nil, err
		}
		if len(found) == 0 && d.Host != "/dev" {
			return nil, nil, fmt.Errorf("error gathering device information while adding custom device %q: not a device node: %w", d.Host, errdefs.ErrInvalidArgument)
		}
		for _, n := range found {
			major, minor := n.Major, n.Minor
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: n.Type, Major: &major, Minor: &minor, Access: d.Permissions})
		}
		nodes = append(nodes, found...)
	}
	return nodes, rules, nil
}

// What of the host's /dev a privileged container has of its own (moby, devices.HostDevices).
var ownDevices = map[string]bool{"pts": true, "shm": true, "fd": true, "mqueue": true, ".lxc": true, ".lxd-mounts": true, ".udev": true, "console": true, "ptmx": true}

func nodesAt(d container.Device) ([]specs.LinuxDevice, error) {
	var nodes []specs.LinuxDevice
	resolved, err := filepath.EvalSymlinks(d.Host)
	if err != nil {
		return nil, fmt.Errorf("error gathering device information while adding custom device %q: no such file or directory: %w", d.Host, errdefs.ErrInvalidArgument)
	}
	err = filepath.WalkDir(resolved, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		if path != resolved && ownDevices[entry.Name()] {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		at := filepath.Join(d.Container, strings.TrimPrefix(path, resolved))
		n, ok, err := node(path, at)
		if err != nil || !ok {
			return err
		}
		nodes = append(nodes, n)
		return nil
	})
	return nodes, err
}

func node(path, at string) (specs.LinuxDevice, bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return specs.LinuxDevice{}, false, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	var kind string
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return specs.LinuxDevice{}, false, nil
	}
	mode := os.FileMode(st.Mode & 0o777)
	return specs.LinuxDevice{
		Path: at, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, true, nil
}
