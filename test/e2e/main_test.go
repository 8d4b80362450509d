// Package e2e tells stories about the programs: what a user types, and what comes of it, one file each
// below testdata (testscript). Each run has network and mount namespaces of its own, an engine in
// directories of its own, and a real registry on its loopback; at the end everything must be as before.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideVariable marks the process that has the namespaces. Its value is the run's number: the pid of
// the process outside.
const insideVariable = "BERTH_E2E_INSIDE"

// run is this run's number.
func run() string { return os.Getenv(insideVariable) }

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("SKIP: the end-to-end tests make namespaces, mounts and networks: run them as root")
		return
	}
	if os.Getenv(insideVariable) == "" {
		os.Exit(reexec())
	}
	os.Exit(inside(m))
}

// reexec runs the tests again in namespaces of their own, and passes their result on. The pid namespace
// is for the machine's safety: no signal of a test that went wrong leaves it, and with its first process
// everything in it ends.
func reexec() int {
	if err := sweep(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: sweep what a killed run left:", err)
		return 1
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", insideVariable, os.Getpid()))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	err := cmd.Run()
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		return failed.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return 0
}

// world is what all stories share.
var world struct {
	bin      string // directory of the programs
	dir      string // of this run
	registry string // host:port
	main     *daemon
}

func inside(m *testing.M) (code int) {
	fail := func(what string, err error) int {
		fmt.Fprintf(os.Stderr, "e2e: %s: %v\n", what, err)
		return 1
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fail("private mounts", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fail("proc of the pid namespace", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fail("loopback: "+string(out), err)
	}
	dir, err := os.MkdirTemp("/var/tmp", prefix+run()+"-")
	if err != nil {
		return fail("directory", err)
	}
	world.dir = dir
	defer func() {
		if err := os.RemoveAll(dir); err != nil && code == 0 {
			code = fail("remove the run's directory", err)
		}
	}()
	if world.bin, err = programs(); err != nil {
		return fail("build the programs", err)
	}
	before, err := look()
	if err != nil {
		return fail("look at the machine", err)
	}
	stopRegistry, err := startRegistry()
	if err != nil {
		return fail("registry", err)
	}
	defer stopRegistry()
	if world.main, err = startDaemon(filepath.Join(dir, "main")); err != nil {
		return fail("engine", err)
	}
	if err := baseImage(world.main); err != nil {
		return fail("base image", err)
	}
	code = m.Run()
	if err := world.main.stop(); err != nil {
		return fail("stop the engine", err)
	}
	if left := awaitClean(before); left != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "e2e: after everything was removed and the engine had stopped, this was left:\n%s", left)
		return 1
	}
	return code
}

// programs are built into bin/ by make; a test that is run alone builds its own.
func programs() (string, error) {
	if dir := os.Getenv("BERTH_BIN"); dir != "" {
		return dir, nil
	}
	dir := filepath.Join(world.dir, "bin")
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
}

// patience is how long anything is waited for: far longer than it takes.
const patience = 60 * time.Second

// eventually waits until try says nil.
func eventually(try func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("still after %v: %w", patience, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
