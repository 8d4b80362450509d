package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// later is a flag of Docker's that does nothing here yet. It is taken by the parser, so that the
// sentence names the flag instead of calling it unknown, and hidden from help.
type later struct {
	name, shorthand string
	bool            bool
	reason          string // in place of "is not supported yet"
}

const windowsOnly = "means something on Windows only"

// unsupported lists these flags of a command, by its short name ("" is berth itself). A function, not
// a map: nothing of it is made before it is asked for.
func unsupported(command string) []later {
	switch command {
	case "":
		return []later{{name: "tls", bool: true}, {name: "tlscacert"}, {name: "tlscert"}, {name: "tlskey"}, {name: "tlsverify", bool: true}}
	case "build":
		return []later{
			{name: "cache-from"}, {name: "cpu-period"}, {name: "cpu-quota"}, {name: "cpu-shares", shorthand: "c"}, {name: "cpuset-cpus"},
			{name: "cpuset-mems"}, {name: "isolation", reason: windowsOnly}, {name: "memory", shorthand: "m"}, {name: "memory-swap"},
			{name: "security-opt"}, {name: "squash", bool: true},
			{name: "allow"}, {name: "cache-to"}, {name: "load", bool: true}, {name: "output", shorthand: "o"}, {name: "push", bool: true}, {name: "ssh"},
		}
	case "builder prune":
		return []later{{name: "keep-storage"}}
	case "images":
		return []later{{name: "tree", bool: true}}
	case "network create":
		return []later{{name: "config-from"}, {name: "config-only", bool: true}, {name: "ingress", bool: true}, {name: "scope"}}
	case "run", "create": // what only the engine can judge it refuses itself
		return []later{
			{name: "cpu-count", reason: windowsOnly}, {name: "cpu-percent", reason: windowsOnly}, {name: "gpus"},
			{name: "io-maxbandwidth", reason: windowsOnly}, {name: "io-maxiops", reason: windowsOnly},
			{name: "isolation", reason: windowsOnly}, {name: "use-api-socket", bool: true},
		}
	case "start":
		return []later{{name: "checkpoint"}, {name: "checkpoint-dir"}}
	case "volume create":
		return []later{
			{name: "availability"}, {name: "group"}, {name: "limit-bytes"}, {name: "required-bytes"}, {name: "scope"}, {name: "secret"},
			{name: "sharing"}, {name: "topology-preferred"}, {name: "topology-required"}, {name: "type"},
		}
	case "volume ls":
		return []later{{name: "cluster", bool: true}}
	}
	return nil
}

// isLater tells whether a command is one of Docker's that is not here yet.
func isLater(command string) bool {
	switch command {
	case "checkpoint", "config", "context", "events", "manifest", "node", "plugin", "search", "secret", "service", "stack", "stats", "swarm",
		"trust", "update", "buildx", "compose", "container stats", "container update", "network connect", "network disconnect",
		"system events", "volume update":
		return true
	}
	return false
}

// addUnsupported defines the flags of the table on the command.
func addUnsupported(c *cobra.Command) {
	for _, f := range unsupported(shortName(c)) {
		fs := c.Flags()
		if f.bool {
			fs.BoolP(f.name, f.shorthand, false, "Not supported yet")
		} else {
			fs.StringArrayP(f.name, f.shorthand, nil, "Not supported yet")
		}
		fs.Lookup(f.name).Hidden = true
	}
}

// refuseUnsupported fails with 125 where one of them was given.
func refuseUnsupported(c *cobra.Command) error {
	var err error
	table := unsupported(shortName(c))
	c.Flags().Visit(func(given *pflag.Flag) {
		for _, f := range table {
			if f.name == given.Name && err == nil {
				reason := f.reason
				if reason == "" {
					reason = "is not supported yet"
				}
				err = withCode(125, fmt.Errorf("--%s %s", f.name, reason))
			}
		}
	})
	return err
}

// shortName is a command's name in the table: "run" for `berth run` and `berth container run`.
func shortName(c *cobra.Command) string {
	path := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), "berth"), " ")
	switch path {
	case "container ls":
		return "ps"
	case "image ls":
		return "images"
	case "image rm":
		return "rmi"
	case "image build", "builder build":
		return "build"
	}
	if rest, ok := strings.CutPrefix(path, "container "); ok && rest != "prune" && rest != "inspect" {
		return rest
	}
	if rest, ok := strings.CutPrefix(path, "image "); ok && rest != "prune" && rest != "inspect" {
		return rest
	}
	return path
}
