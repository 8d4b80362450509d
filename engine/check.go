package engine

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/container/bundle"
	"github.com/berth-engine/berth/volume"
	"github.com/containerd/errdefs"
)

// check refuses what can't work, before anything is made.
func (e *Engine) check(c *container.Config) (warnings []string, err error) {
	if len(c.Process.Args()) == 0 {
		return nil, invalid("no command specified: the image has neither ENTRYPOINT nor CMD, name a command")
	}
	if dir := c.Process.WorkingDir; dir != "" && !path.IsAbs(dir) {
		return nil, invalid("the working directory '%s' is invalid, it needs to be an absolute path", dir)
	}
	if _, err := ParseSignal(c.Process.StopSignal); err != nil && c.Process.StopSignal != "" {
		return nil, err
	}
	if err := c.Restart.Check(); err != nil {
		return nil, err
	}
	if c.AutoRemove && c.Restart.Name != "" && c.Restart.Name != "no" {
		return nil, invalid("can't create 'AutoRemove' container with restart policy")
	}
	if err := checkOOMScore(c.Process.OOMScoreAdj); err != nil {
		return nil, err
	}
	if err := checkHealth(c.Healthcheck); err != nil {
		return nil, err
	}
	if _, joins := container.Joins(c.Isolation.IPCMode); joins { // its /dev/shm is a mount of another mount namespace
		return nil, invalid("--ipc %s is not supported yet: share a volume, or use --ipc host", c.Isolation.IPCMode)
	}
	if _, err := bundle.Capabilities(c.Isolation, e.machine.bounding); err != nil {
		return nil, err
	}
	for _, r := range c.Isolation.DeviceRules {
		if _, err := bundle.ParseDeviceRule(r); err != nil {
			return nil, err
		}
	}
	if _, err := e.filters.filter(c, e.machine); err != nil {
		return nil, err
	}
	if err := checkMounts(c.Mounts); err != nil {
		return nil, err
	}
	if err := checkLimits(c.Resources); err != nil {
		return nil, err
	}
	if err := checkSets(c.Resources); err != nil {
		return nil, err
	}
	warnings = append(warnings, e.machine.cutRlimits(c.Process.Rlimits)...)
	if c.Isolation.Privileged {
		if missing := bundle.Missing(e.machine.bounding); len(missing) > 0 {
			warnings = append(warnings, "privileged, but this machine doesn't have all privileges itself: the container goes without "+strings.Join(missing, ", "))
		}
	}
	if c.Network.Mode == "host" && len(c.Network.Published) > 0 {
		warnings = append(warnings, "Published ports are discarded when using host network mode")
	}
	return warnings, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// checkMounts refuses paths that can't be mounted on, and sources that are not there.
func checkMounts(mounts []container.Mount) error {
	seen := map[string]bool{}
	for _, m := range mounts {
		target := path.Clean(m.Target)
		switch {
		case !path.IsAbs(m.Target):
			return invalid("invalid mount path: '%s' mount path must be absolute", m.Target)
		case target == "/":
			return invalid("invalid specification: destination can't be '/'")
		case seen[target]:
			return invalid("Duplicate mount point: %s", target)
		}
		seen[target] = true
		if m.Kind == container.VolumeMount && m.Source != "" {
			if err := volume.CheckName(m.Source); err != nil {
				return err
			}
		}
		if m.Kind == container.BindMount && !m.CreateHost {
			if _, err := os.Stat(m.Source); err != nil {
				return invalid("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source)
			}
		}
	}
	return nil
}

// checkSharing refuses what a user asks for of a namespace that is another's, and would not get (moby,
// runconfig.validateNetMode; the sentences are Docker's).
func checkSharing(c *container.Config) error {
	n := c.Network
	_, joins := container.Joins(n.Mode)
	mac := false
	for _, ep := range n.Endpoints {
		mac = mac || ep.MAC != ""
	}
	for _, conflict := range []struct {
		is   bool
		text string
	}{
		{joins && n.Hostname != "", "hostname and the network mode"},
		{c.Isolation.UTSMode == "host" && n.Hostname != "", "hostname and the UTS mode"},
		{joins && len(n.DNS) > 0, "dns and the network mode"},
		{joins && len(n.ExtraHosts) > 0, "custom host-to-IP mapping and the network mode"},
		{(joins || n.Mode == "host") && mac, "mac-address and the network mode"},
		{joins && (len(n.Published) > 0 || n.PublishAll), "port publishing and the container type network mode"},
		{joins && len(n.Exposed) > 0, "port exposing and the container type network mode"},
	} {
		if conflict.is {
			return fmt.Errorf("conflicting options: %s: %w", conflict.text, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
