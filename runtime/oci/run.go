package oci

import (
	"errors"
	"os"
	"os/signal"

	"github.com/berth-engine/berth/runtime/relay"
	"golang.org/x/sys/unix"
)

func (p *program) run(args []string) (int, error) {
	var f createFlags
	rest, err := parse(args, append(f.options(), toggle(&f.detach, "do not wait", "--detach", "-d"), toggle(&f.keep, "leave the container when it has ended", "--keep")))
	if err != nil {
		return 1, err
	}
	id, err := one(rest)
	if err != nil {
		return 1, err
	}
	if f.dryRun {
		return 0, p.dryRun(id, f)
	}
	if !f.detach { // before there is anybody who could be left alone
		if err := relay.Catch(forwarded...); err != nil {
			return 1, err
		}
	}
	b, err := readBundle(f.bundle)
	if err != nil {
		return 1, err
	}
	t, err := p.terminalFor(f, b.spec)
	if err != nil {
		return 1, err
	}
	defer t.close()
	c, child, err := p.make(id, f, b, false, streams{console: t.socket()})
	if err != nil {
		return 1, err
	}
	if f.detach {
		return 0, errors.Join(c.poststart(), child.PidFD.Close())
	}
	status, err := p.attend(child.Pid, t, c.poststart)
	child.PidFD.Close()
	if f.keep {
		return status, err
	}
	return status, errors.Join(err, c.destroy(p.ctx), c.poststop())
}

// attend connects the terminal, hands signals on, and waits for the end of our own child.
func (p *program) attend(pid int, t *terminal, then func() error) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0) // our child, not reaped; open as long as signals may come
	if err == nil {
		relay.To(pidfd)
		err = t.connect()
	}
	if err == nil {
		followSize(t)
		err = then()
	}
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, werr := waitFor(pid)
		return 1, errors.Join(err, werr)
	}
	status, err := waitFor(pid)
	t.drain()
	return status, err
}

// forwarded are the signals that are handed on.
var forwarded = []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2}

// followSize makes the process's terminal as large as ours, whenever ours changes.
func followSize(t *terminal) {
	if t == nil {
		return
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	go func() {
		for range changed {
			t.resize()
		}
	}()
}

// waitFor reaps a child and returns its status as a shell gives it.
func waitFor(pid int) (int, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 1, os.NewSyscallError("wait4", err)
		}
		if ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return ws.ExitStatus(), nil
	}
}
