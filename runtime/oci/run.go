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
	var signals *caught
	if !f.detach {
		signals = catch()
	}
	t, err := p.terminalFor(f)
	if err != nil {
		return 1, err
	}
	defer t.close()
	c, child, err := p.make(id, f, false, streams{console: t.socket(), signals: signals})
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
func (p *program) attend(pid int, t *terminal, signals *caught, then func() error) (int, error) {
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

// forwarded are the signals that are handed on, SIGWINCH to the terminal. Each costs a start some 50 µs (Go asks another
// thread to let it through), so that it is these and not all.
var forwarded = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH}

// caught are the signals that would end this program.
type caught struct {
	signals chan os.Signal
	all     chan struct{} // closed when all are caught
}

// catch begins to catch them, beside what else is to be done before a process is started.
func catch() *caught {
	c := &caught{signals: make(chan os.Signal, 64), all: make(chan struct{})}
	go func() {
		signal.Notify(c.signals, forwarded...)
		close(c.all)
	}()
	return c
}

// await waits until all are caught: before there is anybody who could be left alone.
func (c *caught) await() {
	if c != nil {
		<-c.all
	}
}

// forward hands signals on until this program ends. It may signal a process that was reaped in this program's last
// moment.
func forward(c *caught, pid int, t *terminal) {
	for s := range c.signals {
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
