// Command bench measures Berth beside crun and runc with hyperfine, prints the figures side by side and
// as ratios of one run, and says of each target whether it is met; its exit status is 1 when one is not.
// test/bench/bench.sh starts it in namespaces of its own: it needs loopback and root, nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// budget is how long the rounds of the short commands go on: on a busy machine there are fewer of them.
const budget = 45 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(status(ctx))
}

// status is the exit status of the whole benchmark: 0 all targets met, 1 one missed, 2 it could not measure.
func status(ctx context.Context) int {
	bin := flag.String("bin", "bin", "directory of berth, berthd and berth-runtime")
	rounds := flag.Int("rounds", 10, "most rounds of the short commands: each measures every one of them, so that a busy moment meets all")
	runs := flag.Int("runs", 10, "runs of each short command in a round")
	flag.Parse()
	missed, err := bench(ctx, *bin, *rounds, *runs)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	if missed > 0 {
		return 1
	}
	return 0
}

// bench makes a world, measures in it, removes it, and returns how many targets were missed.
func bench(ctx context.Context, bin string, rounds, runs int) (missed int, err error) {
	began := time.Now()
	w, err := open(ctx, bin)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return 0, err
	}
	t := &table{medians: map[string]time.Duration{}}
	for _, part := range []func(context.Context, *world, *table) error{
		func(ctx context.Context, w *world, t *table) error { return containers(ctx, w, t, rounds, runs) },
		builds,
		images,
	} {
		if err := part(ctx, w, t); err != nil {
			return 0, err
		}
	}
	missed = t.targets()
	fmt.Printf("\n%d of the targets missed; the benchmark took %.0f s.\n", missed, time.Since(began).Seconds())
	return missed, nil
}

// containers measures starting and entering containers, by the runtime alone and through the engine.
func containers(ctx context.Context, w *world, t *table, rounds, runs int) error {
	const (
		crun, runc, own     = "crun run", "runc run", "berth-runtime run"
		none, bridge        = "berth run --rm --network none", "berth run --rm (bridge)"
		exec, crunExec      = "berth exec", "crun exec"
		runcExec, ownExec   = "runc exec", "berth-runtime exec"
		bundle              = " run --bundle "
		entered             = "entered"
		baseImage, theImage = " " + baseName + " true", baseName
	)
	for _, runtime := range w.runtimes() {
		if err := w.run(ctx, runtime.command+" run --detach --bundle "+w.path("sleeper")+" "+entered); err != nil {
			return err
		}
		defer w.deleteContainer(ctx, runtime.command, entered)
	}
	if err := w.run(ctx, w.berth("run -d --name "+entered+" "+theImage+" sleep 1000000")); err != nil {
		return err
	}
	crunCommand, runcCommand, ownCommand := w.runtimes()[0].command, w.runtimes()[1].command, w.runtimes()[2].command
	commands := []command{
		{name: crun, line: crunCommand + bundle + w.path("bundle") + " timed"},
		{name: runc, line: runcCommand + bundle + w.path("bundle") + " timed"},
		{name: own, line: ownCommand + bundle + w.path("bundle") + " timed"},
		{name: none, line: w.berth("run --rm --network none" + baseImage)},
		{name: bridge, line: w.berth("run --rm" + baseImage)},
		{name: crunExec, line: crunCommand + " exec " + entered + " true"},
		{name: runcExec, line: runcCommand + " exec " + entered + " true"},
		{name: ownExec, line: ownCommand + " exec " + entered + " true"},
		{name: exec, line: w.berth("exec " + entered + " true")},
	}
	times := map[string][]float64{}
	enough := time.Now().Add(budget)
	for round := range rounds {
		if round > 0 && time.Now().After(enough) {
			break
		}
		for i := range commands {
			found, err := w.hyperfine(ctx, runs, 2, commands[i])
			if err != nil {
				return err
			}
			times[commands[i].name] = append(times[commands[i].name], found...)
		}
	}
	for _, c := range commands {
		t.medians[c.name] = median(times[c.name])
	}
	t.section("Run `true` in a container of the same root file system", crun, crun, runc, own, none, bridge)
	t.section("Run `true` in a container that is there", crunExec, crunExec, runcExec, ownExec, exec)
	t.ratio("berth run --rm with bridge / crun run without network", bridge, crun, 1.5)
	t.ratio("berth-runtime run / crun run", own, crun, 0.7)
	return w.run(ctx, w.berth("rm -f "+entered))
}

// builds measures a Dockerfile of twenty steps: nothing in the cache, everything, and one file changed.
func builds(ctx context.Context, w *world, t *table) error {
	const cold, cached, changed = "build, 20 steps, cold", "build, 20 steps, cached", "build, one file changed (10 steps again)"
	dir := w.path("context")
	if err := writeContext(dir); err != nil {
		return err
	}
	build := w.berth("build -q -t steps:bench " + dir)
	forget := w.path("forget.sh")
	script := fmt.Sprintf("#!/bin/sh\nset -e\n%s\n%s\n", w.berth("rmi -f steps:bench"), w.berth("builder prune -af"))
	if err := os.WriteFile(forget, []byte(script), 0o700); err != nil {
		return err
	}
	change := w.path("change.sh")
	script = fmt.Sprintf("#!/bin/sh\ndate +%%s%%N > %s\n", filepath.Join(dir, changedFile))
	if err := os.WriteFile(change, []byte(script), 0o700); err != nil {
		return err
	}
	if _, err := w.output(ctx, build); err != nil {
		return err
	}
	for _, state := range []struct {
		prepare string
		cached  int // steps
	}{{forget, 0}, {"true", steps}, {change, steps / 2}} {
		if err := w.checkCached(ctx, dir, state.prepare, state.cached); err != nil {
			return err
		}
	}
	id, err := w.output(ctx, build)
	if err != nil {
		return err
	}
	if err := t.measure(ctx, w, 25, command{name: cached, line: build}); err != nil {
		return err
	}
	again, err := w.output(ctx, build)
	if err != nil {
		return err
	}
	if err := t.measure(ctx, w, 5, command{name: changed, line: build, prepare: change}); err != nil {
		return err
	}
	if err := t.measure(ctx, w, 5, command{name: cold, line: build, prepare: forget}); err != nil {
		return err
	}
	t.section("Build", cold, cold, changed, cached)
	t.limit("20-step build, everything cached", cached, 60*time.Millisecond)
	t.same("the image ID of a cached build is the same", id, again)
	t.limit("20-step build, cold", cold, time.Second)
	return w.run(ctx, w.berth("rmi -f steps:bench"))
}

// images measures pulling a large image until it can be run, and removing it, beside skopeo and umoci.
func images(ctx context.Context, w *world, t *table) error {
	const pull, remove = "berth pull", "berth rmi"
	const peerPull, peerRemove = "skopeo copy + umoci unpack", "rm -rf of both"
	name := w.registry + "/large:bench"
	if err := w.pushLarge(ctx, name); err != nil {
		return err
	}
	if err := t.measure(ctx, w, 3, command{name: pull, line: w.berth("pull -q " + name), prepare: w.berth("rmi -f " + name)}); err != nil {
		return err
	}
	if err := w.run(ctx, w.berth("run --rm --network none "+name+" test -s /data/1999")); err != nil {
		return fmt.Errorf("run what was pulled: %w", err)
	}
	if err := t.measure(ctx, w, 5, command{name: remove, line: w.berth("rmi " + name), prepare: w.berth("pull -q " + name)}); err != nil {
		return err
	}
	peer := w.path("peer.sh")
	script := fmt.Sprintf("#!/bin/sh\nset -e\nskopeo copy -q --src-tls-verify=false docker://%s oci:%s:large\numoci unpack --image %s:large %s\n",
		name, w.path("peer/oci"), w.path("peer/oci"), w.path("peer/unpacked"))
	if err := os.WriteFile(peer, []byte(script), 0o700); err != nil {
		return err
	}
	clear := "rm -rf " + w.path("peer")
	if err := t.measure(ctx, w, 1, command{name: peerPull, line: peer, prepare: "sh -c '" + clear + " && mkdir " + w.path("peer") + "'"}); err != nil {
		return err
	}
	if err := t.measure(ctx, w, 1, command{name: peerRemove, line: clear}); err != nil {
		return err
	}
	t.section("Pull a 500 MB image until it can be run", peerPull, peerPull, pull)
	t.section("Remove it", peerRemove, peerRemove, remove)
	t.limit("removing the 500 MB image", remove, 60*time.Millisecond)
	return nil
}
