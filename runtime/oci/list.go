package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func (p *program) print(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = p.stdout.Write(append(b, '\n'))
	return err
}

// described is a container's state as state and list print it: the specification's fields, and those that callers of
// runc read.
type described struct {
	specs.State
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
	Owner   string    `json:"owner"`
}

func (c *container) describe() described {
	status := c.status()
	d := described{State: c.state(status), Created: c.record.Created, Rootfs: c.rootPath(), Owner: strconv.Itoa(c.record.Owner)}
	if status == specs.StateRunning && c.paused() {
		d.Status = "paused"
	}
	return d
}

func (p *program) state(args []string) (int, error) {
	rest, err := parse(args, nil)
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
	return 0, p.print(c.describe())
}

func (p *program) list(args []string) (int, error) {
	var quiet bool
	format := "table"
	if _, err := parse(args, []option{toggle(&quiet, "ids only", "--quiet", "-q"), text(&format, "table or json", "--format", "-f")}); err != nil {
		return 1, err
	}
	entries, err := os.ReadDir(p.root)
	if err != nil && !os.IsNotExist(err) {
		return 1, err
	}
	all := []described{}
	for _, e := range entries {
		if c, err := p.find(e.Name()); err == nil { // one that is just being made or removed is not listed
			all = append(all, c.describe())
		}
	}
	switch {
	case quiet:
		for _, d := range all {
			fmt.Fprintln(p.stdout, d.ID)
		}
		return 0, nil
	case format == "json":
		return 0, p.print(all)
	case format != "table":
		return 1, fmt.Errorf("format %q: it must be table or json", format)
	}
	passwd, _ := os.ReadFile("/etc/passwd") // without it the number does
	w := tabwriter.NewWriter(p.stdout, 12, 1, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER")
	for _, d := range all {
		owner := nameOf(string(passwd), d.Owner)
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", d.ID, d.Pid, d.Status, d.Bundle, d.Created.Format(time.RFC3339Nano), owner)
	}
	return 0, w.Flush()
}

func (p *program) ps(args []string) (int, error) {
	format := "table"
	rest, err := parse(args, []option{text(&format, "table or json", "--format", "-f")})
	if err != nil {
		return 1, err
	}
	if len(rest) == 0 {
		return 1, errors.New("ps takes a container")
	}
	c, err := p.find(rest[0])
	if err != nil {
		return 1, err
	}
	pids, err := c.pids()
	if err != nil {
		return 1, err
	}
	if format == "json" {
		return 0, p.print(pids)
	}
	return 0, p.table(pids, rest[1:])
}

// pids are the container's processes, by its cgroup; without one only the first is known.
func (c *container) pids() ([]int, error) {
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	if g != nil {
		return g.Procs()
	}
	if c.alive() {
		return []int{c.record.Pid}, nil
	}
	return nil, nil
}

// table asks ps(1) and leaves out what is not ours, as other runtimes do.
func (p *program) table(pids []int, args []string) error {
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := exec.CommandContext(p.ctx, "ps", args...).Output()
	if err != nil {
		return fmt.Errorf("ps %s: %w", strings.Join(args, " "), err)
	}
	head, lines, _ := strings.Cut(string(out), "\n")
	column := -1
	for i, name := range strings.Fields(head) {
		if name == "PID" {
			column = i
		}
	}
	if column < 0 {
		return errors.New("ps prints no column PID: choose options with one")
	}
	fmt.Fprintln(p.stdout, head)
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		if len(fields) <= column {
			continue
		}
		if pid, err := strconv.Atoi(fields[column]); err == nil && contains(pids, pid) {
			fmt.Fprint(p.stdout, line)
		}
	}
	return nil
}
