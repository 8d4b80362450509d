package runtime_test

import (
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-engine/berth/runtime"
)

// TestNothingOfTheHost: the container's root is the only mount at "/", and who enters the container is in it.
func TestNothingOfTheHost(t *testing.T) {
	t.Run("cold", testNothingOfTheHost)
	t.Run("warm/root", testNothingOfTheHost)
}

func testNothingOfTheHost(t *testing.T) {
	b := newBench(t)
	b.file("etc/here", "", 0o644)
	cfg := b.config(sh("cat /proc/self/mountinfo; read x")...)
	cfg.Spec.Linux.MaskedPaths = []string{"/proc/kcore", "/proc/acpi", "/sys/firmware"}
	cfg.Spec.Linux.ReadonlyPaths = []string{"/proc/sys"}
	cfg.Stdin, cfg.Attach = runtime.StdinOnce, &runtime.AttachOptions{Stdin: true, Stdout: true}
	c := b.start(cfg)
	p, err := c.Exec(t.Context(), runtime.ExecConfig{Process: &specs.Process{Args: sh("test -e /etc/here; echo $?; cat /proc/self/mountinfo"), Env: []string{"PATH=/bin"}, Cwd: "/"}, Attach: runtime.AttachOptions{Stdout: true}})
	if err != nil {
		t.Fatal(err)
	}
	added, _ := b.read(p.Stream())
	if err := c.Attached().CloseWrite(); err != nil {
		t.Fatal(err)
	}
	first, _ := b.read(c.Attached())
	here, rest, _ := strings.Cut(added.out, "\n")
	if here != "0" || rest != first.out {
		t.Errorf("the container sees\n%s\nand an exec (%s)\n%s", first.out, here, rest)
	}
	roots := 0
	for line := range strings.Lines(first.out) {
		if f := strings.Fields(line); f[4] == "/" {
			roots++
		}
	}
	if roots != 1 {
		t.Errorf("%d mounts are at /:\n%s", roots, first.out)
	}
}
