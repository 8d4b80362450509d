package engine

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Processes is what ps says of a container's processes.
type Processes struct {
	Titles []string
	Rows   [][]string // as long as Titles each
}

// Top asks the host's ps, with these words ("-ef" where there are none), and keeps the container's
// processes: those in its cgroup. Their pids are the host's, as with Docker.
func (e *Engine) Top(ctx context.Context, user string, words []string) (Processes, error) {
	c, err := e.find(user)
	if err != nil {
		return Processes{}, err
	}
	shim, err := c.running()
	if err != nil {
		return Processes{}, err
	}
	pids, err := shim.Pids()
	if err != nil {
		return Processes{}, err
	}
	if len(words) == 0 {
		words = []string{"-ef"}
	}
	if slices.ContainsFunc(words, func(w string) bool { return strings.ContainsAny(w, "\x00\n") }) {
		return Processes{}, fmt.Errorf("ps options %q: %w", words, errdefs.ErrInvalidArgument)
	}
	out, err := exec.CommandContext(ctx, "ps", words...).Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			return Processes{}, fmt.Errorf("ps %s: %s: %w", strings.Join(words, " "), strings.TrimSpace(string(failed.Stderr)), errdefs.ErrInvalidArgument)
		}
		return Processes{}, fmt.Errorf("list processes with the host's ps: %w", err)
	}
	return processes(string(out), pids)
}

// processes reads a table of ps: words, of which the last column has the rest of the line.
func processes(table string, pids []int) (p Processes, err error) {
	head, rows, _ := strings.Cut(table, "\n")
	p.Titles = strings.Fields(head)
	at := slices.Index(p.Titles, "PID")
	if at < 0 {
		return p, fmt.Errorf("ps shows no column PID, without which it is not known whose a process is: %w", errdefs.ErrInvalidArgument)
	}
	for line := range strings.Lines(rows) {
		fields := strings.Fields(line)
		if len(fields) < len(p.Titles) {
			continue
		}
		last := len(p.Titles) - 1
		row := append(slices.Clone(fields[:last]), strings.Join(fields[last:], " "))
		if pid, err := strconv.Atoi(row[at]); err == nil && slices.Contains(pids, pid) {
			p.Rows = append(p.Rows, row)
		}
	}
	return p, nil
}
