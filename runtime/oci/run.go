package oci

import (
	"errors"
	"os"
	"os/signal"

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
	t, err := p.terminalFor(f)
	if err != nil {
		return 1, err
	}
	defer t.close()
	var signals <-chan os.Signal
	if !f.detach {
		signals = catch(t) // before there is anybody who could be left alone
	}
	c, child, err := p.make(id, f, false, streams{console: t.socket()})
	if err != nil {
		return 1, err
	}
	if f.detach {
		return 0, errors.Join(c.poststart(), child.PidFD.Close())
	}
	status, err := p.attend(child.Pid, t, signals, c.poststart)
	child.PidFD.Close()
	if f.keep {
		return status, err
	}
	return status, errors.Join(err, c.destroy(p.ctx), c.poststop())
}

// attend connects the terminal, hands signals on, and waits for the end of our own child.
func (p *program) attend(pid int, t *terminal, signals <-chan os.Signal, then func() error) (int, error) {
	if err := t.connect(); err != nil {
		return 1, err
	}
	go forward(signals, pid, t)
	if err := then(); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL) // our child, not reaped
		_, werr := waitFor(pid)
		return 1, errors.Join(err, werr)
	}
	status, err := waitFor(pid)
	t.drain()
	return status, err
}

// forwarded are the signals that are handed on. Each costs a start some 50 µs (Go asks another thread to let it
// through), so that it is these and not all.
var forwarded = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2}

// catch takes signals that would end this program.
func catch(t *terminal) <-chan os.Signal {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, forwarded...)
	if t != nil {
		signal.Notify(signals, unix.SIGWINCH)
	}
	return signals
}

// forward hands signals on until this program ends. It may signal a process that was reaped in this program's last
// moment.
func forward(signals <-chan os.Signal, pid int, t *terminal) {
	for s := range signals {
		if s == unix.SIGWINCH {
			t.resize()
			continue
		}
		_ = unix.Kill(pid, s.(unix.Signal))
	}
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
