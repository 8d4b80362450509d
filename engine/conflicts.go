package engine

import (
	"fmt"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/containerd/errdefs"
)

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

// checkOOMScore: the range is the kernel's (proc_pid_oom_score_adj(5)).
func checkOOMScore(score int) error {
	if score < -1000 || score > 1000 {
		return fmt.Errorf("Invalid value %d, range for oom score adj is [-1000, 1000]: %w", score, errdefs.ErrInvalidArgument) // Docker's sentence
	}
	return nil
}

// minHealthTime is the shortest time that Docker accepts.
const minHealthTime = time.Millisecond

// checkHealth refuses times that are shorter than Docker's; zero is the default.
func checkHealth(h *container.Healthcheck) error {
	if h == nil {
		return nil
	}
	for _, t := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if t.value != 0 && t.value < minHealthTime {
			return fmt.Errorf("%s in Healthcheck cannot be less than %s: %w", t.name, minHealthTime, errdefs.ErrInvalidArgument) // Docker's sentence
		}
	}
	if h.Retries < 0 {
		return fmt.Errorf("Retries in Healthcheck cannot be negative: %w", errdefs.ErrInvalidArgument) // Docker's sentence
	}
	return nil
}
