package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// peer is another engine with Docker's command line.
type peer struct {
	name, command string
	bridge        bool   // it can give a container a network here
	build         string // its build, "" for none
	local         bool   // it reaches the benchmark's registry
}

// peers are those that are installed and answer. The others are named, so that nobody takes a figure that is not there
// for one that was left out. Whatever fails in a peer is said, and the benchmark goes on.
func (w *world) peers(ctx context.Context, base string) (found []peer) {
	podman := "podman --root " + w.path("podman") + " --runroot " + w.path("podman-run") + " --cgroup-manager cgroupfs --events-backend none --runtime crun"
	buildah := "buildah --root " + w.path("podman") + " --runroot " + w.path("podman-run")
	const never = " --layers --isolation oci --network none --pull-never"
	var missing []string
	for _, p := range []peer{
		{name: "podman", command: podman, local: true},
		{name: "buildah", command: buildah, build: buildah + " bud" + never},
		{name: "docker", command: "docker", bridge: true, build: "docker build"},
	} {
		if _, err := exec.LookPath(p.name); err != nil {
			missing = append(missing, p.name)
			continue
		}
		switch p.name {
		case "docker": // its engine is the machine's; a command line alone is nothing to measure
			if w.run(ctx, "docker version --format {{.Server.Version}}") != nil {
				missing = append(missing, "docker (no engine answers)")
				continue
			}
			fallthrough
		case "podman":
			if err := w.run(ctx, p.command+" import "+base+" "+baseName); err != nil {
				fmt.Fprintln(os.Stderr, "bench: without", p.name+":", err)
				continue
			}
		}
		found = append(found, p)
	}
	if len(missing) > 0 {
		fmt.Printf("Not measured, because not installed: %s\n", strings.Join(missing, ", "))
	}
	return found
}

// clear takes back what the benchmark made in a peer whose store is not in the benchmark's directory.
func (w *world) clear(ctx context.Context, peers []peer) {
	ctx = context.WithoutCancel(ctx)
	for _, p := range peers {
		if p.name == "docker" {
			_ = w.run(ctx, "docker rmi -f steps:bench "+baseName) // what is not there is not left
		}
		if p.local {
			_ = w.run(ctx, p.command+" rm -fa")
			_ = w.run(ctx, p.command+" umount -fa")
		}
	}
}
