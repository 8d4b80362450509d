package runtime_test

import (
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

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

// TestSharedRoot: a root that is a clone of a shared mount, as every mount is under systemd, shows the host nothing of
// what is mounted in the container.
func TestSharedRoot(t *testing.T) {
	b := newBench(t)
	if err := unix.Mount(b.tree, b.tree, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(b.tree, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", b.tree, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	cfg := b.config(sh("echo up; read x")...)
	cfg.Stdin, cfg.Attach = runtime.StdinOnce, &runtime.AttachOptions{Stdin: true, Stdout: true}
	c := b.start(cfg)
	if _, p, err := c.Attached().Next(); err != nil || string(p) != "up\n" {
		t.Fatalf("%q, %v", p, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(mounts), b.tree); n != 2 { // the bind mount's root and where it is
		t.Errorf("the host sees mounts of the container:\n%s", mounts)
	}
	if err := c.Attached().CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b.read(c.Attached())
}
