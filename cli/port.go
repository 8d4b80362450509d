package cli

import (
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
)

func setupPort(a *App, c *cobra.Command) {
	c.Use = "port CONTAINER [PRIVATE_PORT[/PROTO]]"
	c.Example = "berth port web 80/tcp"
	c.Args = nArgs(1, 2)
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		info, err := engine.Container(c.Context(), args[0])
		if err != nil {
			return err
		}
		var ports map[string][]client.PortBinding
		if info.NetworkSettings != nil {
			ports = info.NetworkSettings.Ports
		}
		if len(args) == 2 {
			return a.printPort(args[0], args[1], ports)
		}
		var lines []string
		for port, bindings := range ports {
			for _, b := range bindings {
				lines = append(lines, port+" -> "+net.JoinHostPort(b.HostIP, b.HostPort))
			}
		}
		for _, line := range sorted(lines) {
			a.printf("%s\n", line)
		}
		return nil
	}
}

func (a *App) printPort(container, port string, ports map[string][]client.PortBinding) error {
	if !strings.Contains(port, "/") {
		port += "/tcp"
	}
	bindings := ports[port]
	if len(bindings) == 0 {
		return fmt.Errorf("the port %s of %s is not published", port, container)
	}
	var lines []string
	for _, b := range bindings {
		lines = append(lines, net.JoinHostPort(b.HostIP, b.HostPort))
	}
	for _, line := range sorted(lines) {
		a.printf("%s\n", line)
	}
	return nil
}

func setupDiff(a *App, c *cobra.Command) {
	c.Use = "diff CONTAINER"
	c.Example = "berth diff web"
	c.Args = nArgs(1, 1)
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		var changes []struct {
			Kind int
			Path string
		}
		if err := engine.Call(c.Context(), "GET", containerPath(args[0])+"/changes", nil, nil, &changes); err != nil {
			return err
		}
		for _, change := range changes {
			letter := "?"
			if change.Kind >= 0 && change.Kind < 3 {
				letter = string("CAD"[change.Kind])
			}
			a.printf("%s %s\n", letter, change.Path)
		}
		return nil
	}
}
