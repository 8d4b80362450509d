package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-engine/berth/runtime/cgroup"
)

// withGroup reads the one container of args and calls do with its cgroup.
func (p *program) withGroup(args []string, options []option, do func(c *container, g *cgroup.Group) error) (int, error) {
	rest, err := parse(args, options)
	if err != nil {
		return 1, err
	}
	id, err := one(rest)
	if err != nil {
		return 1, err
	}
	c, err := p.find(id)
	if err != nil {
		return 1, err
	}
	g, err := c.group()
	if err != nil {
		return 1, err
	}
	if g == nil {
		return 1, fmt.Errorf("container %q has no cgroup", id)
	}
	return 0, do(c, g)
}

func (p *program) pause(args []string) (int, error) {
	return p.withGroup(args, nil, func(c *container, g *cgroup.Group) error {
		if s := c.status(); s != specs.StateRunning && s != specs.StateCreated {
			return fmt.Errorf("container %q is %s: it can't be paused", c.record.ID, s)
		}
		return g.Freeze(p.ctx)
	})
}

func (p *program) resume(args []string) (int, error) {
	return p.withGroup(args, nil, func(_ *container, g *cgroup.Group) error { return g.Thaw(p.ctx) })
}

// paused says whether the container's cgroup is frozen.
func (c *container) paused() bool {
	g, err := c.group()
	if err != nil || g == nil {
		return false
	}
	frozen, err := g.Frozen()
	return err == nil && frozen
}

func (p *program) update(args []string) (int, error) {
	file := ""
	return p.withGroup(args, []option{text(&file, "JSON of linux.resources, - for standard input", "--resources", "-r")}, func(_ *container, g *cgroup.Group) error {
		if file == "" {
			return errors.New("update takes its limits from --resources FILE")
		}
		b, err := readFile(file, p.stdin)
		if err != nil {
			return err
		}
		var r specs.LinuxResources
		if err := json.Unmarshal(b, &r); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		r.Devices = nil // who may use what is decided when the container is made
		return g.Set(&r)
	})
}

func readFile(path string, stdin *os.File) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(path)
}

// events prints the counters once, in the shape of runc's `events --stats`.
func (p *program) events(args []string) (int, error) {
	var once bool
	return p.withGroup(args, []option{toggle(&once, "once", "--stats"), text(new(string), "taken and not used", "--interval")}, func(c *container, g *cgroup.Group) error {
		if !once {
			return errors.New("only events --stats is supported")
		}
		s, err := g.Stats()
		if err != nil {
			return err
		}
		type usage struct {
			Usage uint64 `json:"usage"`
			Limit uint64 `json:"limit,omitempty"`
		}
		return p.print(map[string]any{"type": "stats", "id": c.record.ID, "data": map[string]any{
			"cpu":    map[string]any{"usage": map[string]uint64{"total": s.CPU}},
			"memory": map[string]any{"usage": usage{s.Memory, s.MemoryLimit}, "cache": s.MemoryCache},
			"pids":   map[string]uint64{"current": s.Pids, "limit": s.PidsLimit},
		}})
	})
}

func (p *program) printVersion() error {
	_, err := fmt.Fprintf(p.stdout, "berth-runtime version %s\nspec: %s\ncgroups: %s\n", p.release, specs.Version, strings.TrimSpace(groups()))
	return err
}

func groups() string {
	s, err := cgroup.Find()
	if err != nil {
		return "none"
	}
	return fmt.Sprint("version ", s.Version())
}
