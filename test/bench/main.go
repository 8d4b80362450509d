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
	peers := w.peers(ctx, w.path("base.tar"))
	defer w.clear(ctx, peers)
	for _, part := range []func(context.Context, *world, *table, []peer) error{
		func(ctx context.Context, w *world, t *table, peers []peer) error {
			return containers(ctx, w, t, peers, rounds, runs)
		},
		builds,
		images,
	} {
		if err := part(ctx, w, t, peers); err != nil {
			return 0, err
		}
	}
	missed = t.targets()
	fmt.Printf("\n%d of the targets missed; the benchmark took %.0f s.\n", missed, time.Since(began).Seconds())
	return missed, nil
}

// containers measures starting and entering containers, by the runtime alone and through the engine.
func containers(ctx context.Context, w *world, t *table, peers []peer, rounds, runs int) error {
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
	starts, enters := []string{crun, runc, own, none, bridge}, []string{crunExec, runcExec, ownExec, exec}
	for _, p := range peers {
		if p.build != "" && !p.bridge {
			continue // it only builds
		}
		if err := w.run(ctx, p.command+" run -d --name bench-"+entered+" --network none "+theImage+" sleep 1000000"); err != nil {
			return err
		}
		defer func() { _ = w.run(context.WithoutCancel(ctx), p.command+" rm -f bench-"+entered) }()
		line := func(rest string) string { return p.command + " " + rest }
		run, enter := p.name+" run --rm --network none", p.name+" exec"
		commands = append(commands, command{name: run, line: line("run --rm --network none" + baseImage), slow: true},
			command{name: enter, line: line("exec bench-" + entered + " true"), slow: true})
		starts, enters = append(starts, run), append(enters, enter)
		if p.bridge {
			commands = append(commands, command{name: p.name + " run --rm (bridge)", line: line("run --rm" + baseImage), slow: true})
			starts = append(starts, p.name+" run --rm (bridge)")
		}
	}
	const apart = ", 50 ms apart"
	var spaced []command
	for _, c := range commands {
		if c.name == crun || c.name == own || c.name == bridge {
			c.name, c.prepare = c.name+apart, "sleep 0.05"
			spaced = append(spaced, c)
		}
	}
	if err := t.rounds(ctx, w, append(commands, spaced...), rounds, runs); err != nil {
		return err
	}
	t.section("Run `true` in a container of the same root file system, one run after the other", crun, starts...)
	t.section("The same with a pause between the runs, as people and scripts make them", crun+apart, crun+apart, own+apart, bridge+apart)
	t.section("Run `true` in a container that is there", crunExec, enters...)
	t.ratio("berth run --rm with bridge / crun run without network", bridge, crun, 1.5)
	t.ratio("the same, 50 ms apart", bridge+apart, crun+apart, 1.5)
	t.ratio("berth-runtime run / crun run", own, crun, 0.7)
	t.ratio("the same, 50 ms apart", own+apart, crun+apart, 0.7)
	return w.run(ctx, w.berth("rm -f "+entered))
}

// builds measures a Dockerfile of twenty steps: nothing in the cache, everything, and one file changed.
func builds(ctx context.Context, w *world, t *table, peers []peer) error {
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
	if err := peerBuilds(ctx, w, t, peers, dir, change); err != nil {
		return err
	}
	t.limit("20-step build, everything cached", cached, 60*time.Millisecond)
	t.same("the image ID of a cached build is the same", id, again)
	t.limit("20-step build, cold", cold, time.Second)
	return w.run(ctx, w.berth("rmi -f steps:bench"))
}

// peerBuilds measures the same build by others.
func peerBuilds(ctx context.Context, w *world, t *table, peers []peer, dir, change string) error {
	for _, p := range peers {
		if p.build == "" {
			continue
		}
		line := p.build + " -q -t steps:bench " + dir
		forget := p.command + " rmi -f steps:bench"
		if p.name == "docker" {
			forget = "docker builder prune -af"
		}
		if err := w.run(ctx, line); err != nil {
			fmt.Fprintln(os.Stderr, "bench: without builds of", p.name+":", err)
			continue
		}
		var names []string
		for _, state := range []command{{name: ", cached", prepare: "true"}, {name: ", one file changed", prepare: change}, {name: ", cold", prepare: forget}} {
			state.name, state.line = p.name+state.name, line
			names = append([]string{state.name}, names...)
			if err := t.measure(ctx, w, 3, state); err != nil {
				return err
			}
		}
		t.section("Build, by "+p.name, names[0], names...)
	}
	return nil
}

// images measures pulling a large image until it can be run, and removing it, beside skopeo and umoci.
func images(ctx context.Context, w *world, t *table, peers []peer) error {
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
	pulls, removals := []string{peerPull, pull}, []string{peerRemove, remove}
	for _, p := range peers {
		if !p.local {
			continue // its engine is in another network
		}
		get, drop := p.command+" pull -q --tls-verify=false "+name, p.command+" rmi -f "+name
		if err := w.run(ctx, get); err != nil {
			return err
		}
		for _, c := range []command{{name: p.name + " pull", line: get, prepare: drop}, {name: p.name + " rmi", line: drop, prepare: get}} {
			if err := t.measure(ctx, w, 1, c); err != nil {
				return err
			}
		}
		pulls, removals = append(pulls, p.name+" pull"), append(removals, p.name+" rmi")
	}
	t.section("Pull a 500 MB image until it can be run", peerPull, pulls...)
	t.section("Remove it", peerRemove, removals...)
	t.limit("removing the 500 MB image", remove, 60*time.Millisecond)
	return nil
}
