package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// command is one that is timed: a line that hyperfine splits into words (no shell), and one that runs
// before each of its runs, untimed.
type command struct {
	name, line, prepare string
	slow                bool // a few runs are enough
}

// hyperfine runs a command so many times, after so many runs that do not count, and returns the times in
// seconds.
func (w *world) hyperfine(ctx context.Context, runs, warmup int, c command) ([]float64, error) {
	file := w.path("hyperfine.json")
	args := []string{"-N", "--style", "none", "--runs", strconv.Itoa(runs), "--warmup", strconv.Itoa(warmup), "--export-json", file}
	if c.prepare != "" {
		args = append(args, "--prepare", c.prepare)
	}
	cmd := exec.CommandContext(ctx, "hyperfine", append(args, c.line)...)
	cmd.Env = w.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		// hyperfine hides what the command said: run it once more and let it speak.
		said, _ := w.output(ctx, c.line)
		return nil, fmt.Errorf("time %s (%s): %w: %s%s", c.name, c.line, err, out.String(), said)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var export struct {
		Results []struct {
			Times []float64 `json:"times"`
		} `json:"results"`
	}
	if err := json.Unmarshal(b, &export); err != nil {
		return nil, fmt.Errorf("read what hyperfine found: %w", err)
	}
	if len(export.Results) != 1 || len(export.Results[0].Times) == 0 {
		return nil, fmt.Errorf("hyperfine found no times for %s", c.name)
	}
	return export.Results[0].Times, nil
}
