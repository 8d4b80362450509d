package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// daemon is an engine in a directory of its own.
type daemon struct {
	dir    string
	socket string
	cmd    *exec.Cmd
	log    *os.File
}

func (d *daemon) host() string { return "unix://" + d.socket }

// startDaemon starts an engine and waits until it answers. dir may hold what an earlier one left.
func startDaemon(dir string, flags ...string) (*daemon, error) {
	d := &daemon{dir: dir, socket: filepath.Join(dir, "berth.sock")}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	var err error
	if d.log, err = os.OpenFile(filepath.Join(dir, "berthd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	args := append([]string{"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "-H", d.host(), "--debug",
		"--cgroup-parent", cgroupPrefix() + filepath.Base(dir)}, flags...)
	d.cmd = exec.Command(filepath.Join(world.bin, "berthd"), args...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	died := make(chan error, 1)
	go func() { died <- d.cmd.Wait() }()
	err = eventually(func() error {
		select {
		case err := <-died:
			died <- err
			return nil
		default:
		}
		c, err := net.Dial("unix", d.socket)
		if err != nil {
			return err
		}
		return c.Close()
	})
	select {
	case e := <-died:
		err = fmt.Errorf("berthd ended: %w", errors.Join(e, err))
	default:
	}
	if err != nil {
		log, _ := os.ReadFile(d.log.Name())
		return nil, fmt.Errorf("%w\n%s", err, log)
	}
	return d, nil
}

// cgroupPrefix begins the names of this run's cgroups.
func cgroupPrefix() string { return "/" + prefix + run() + "-" }

// berth runs the command line against the engine.
func (d *daemon) berth(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(world.bin, "berth"), args...)
	cmd.Env = append(os.Environ(), "BERTH_HOST="+d.host())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("berth %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// kill ends the engine as a crash would.
func (d *daemon) kill() error { return d.signal(syscall.SIGKILL) }

func (d *daemon) signal(sig syscall.Signal) error {
	pid := d.cmd.Process.Pid
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return eventually(func() error {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return nil
		}
		return fmt.Errorf("berthd (pid %d) is still there after signal %v", pid, sig)
	})
}

// stop removes everything that the engine has, and ends it.
func (d *daemon) stop() error {
	ids, err := d.berth("ps", "-aq", "--no-trunc")
	if err != nil {
		return err
	}
	if ids != "" {
		if _, err := d.berth(append([]string{"rm", "-fv"}, strings.Fields(ids)...)...); err != nil {
			return err
		}
	}
	if _, err := d.berth("system", "prune", "-af", "--volumes"); err != nil {
		return err
	}
	defer d.log.Close()
	return d.signal(syscall.SIGTERM)
}
