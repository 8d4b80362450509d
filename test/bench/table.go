package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// table is what was measured, and what it was to be.
type table struct {
	medians map[string]time.Duration
	lines   []target
}

// target is one aim, with what came of it.
type target struct {
	what, aim, figure string
	met               bool
}

// measure takes the median of some runs of one command.
func (t *table) measure(ctx context.Context, w *world, runs int, c command) error {
	times, err := w.hyperfine(ctx, runs, 0, c)
	if err != nil {
		return err
	}
	t.medians[c.name] = median(times)
	return nil
}

// rounds takes the medians of short commands: each round measures every one of them, so that a busy moment meets all.
func (t *table) rounds(ctx context.Context, w *world, commands []command, rounds, runs int) error {
	times := map[string][]float64{}
	enough := time.Now().Add(budget)
	for round := range rounds {
		if round > 0 && time.Now().After(enough) {
			break
		}
		// in another order each time: what a command leaves to the kernel to tidy up meets whoever comes after it
		order := rand.New(rand.NewPCG(1, uint64(round))).Perm(len(commands))
		for _, i := range order {
			c := commands[i]
			n := runs
			if c.slow {
				n = max(1, runs/5)
			}
			found, err := w.hyperfine(ctx, n, 1, c)
			if err != nil {
				return err
			}
			times[c.name] = append(times[c.name], found...)
		}
	}
	for _, c := range commands {
		t.medians[c.name] = median(times[c.name])
	}
	return nil
}

// section prints some medians, each as a ratio to that of base.
func (t *table) section(title, base string, names ...string) {
	fmt.Printf("\n%s\n", title)
	for _, name := range names {
		fmt.Printf("  %-44s %10s  %6.2f\n", name, milliseconds(t.medians[name]), float64(t.medians[name])/float64(t.medians[base]))
	}
}

// ratio is a target: name takes at most so many times what base takes.
func (t *table) ratio(what, name, base string, most float64) {
	r := float64(t.medians[name]) / float64(t.medians[base])
	t.lines = append(t.lines, target{what, fmt.Sprintf("≤ %.1f", most), fmt.Sprintf("%.2f", r), r <= most})
}

// limit is a target: name takes at most so long.
func (t *table) limit(what, name string, most time.Duration) {
	m := t.medians[name]
	t.lines = append(t.lines, target{what, "≤ " + milliseconds(most), milliseconds(m), m <= most})
}

// same is a target: two things are equal.
func (t *table) same(what, one, other string) {
	figure := "same"
	if one != other {
		figure = one + ", then " + other
	}
	t.lines = append(t.lines, target{what, "same", figure, one == other})
}

// targets prints the targets and returns how many were missed.
func (t *table) targets() (missed int) {
	fmt.Printf("\nTargets\n")
	for _, l := range t.lines {
		verdict := "met"
		if !l.met {
			verdict = "missed"
			missed++
		}
		fmt.Printf("  %-54s %12s %12s  %s\n", l.what, l.aim, l.figure, verdict)
	}
	return missed
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// median is the middle of some times in seconds; there is at least one.
func median(seconds []float64) time.Duration {
	s := slices.Sorted(slices.Values(seconds))
	m := (s[(len(s)-1)/2] + s[len(s)/2]) / 2
	return time.Duration(m * float64(time.Second))
}
