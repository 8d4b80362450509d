package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/cgroup"
)

func (p *program) kill(args []string) (int, error) {
	var all bool
	rest, err := parse(args, []option{toggle(&all, "every process of the container", "--all", "-a")})
	if err != nil {
		return 1, err
	}
	if len(rest) < 1 || len(rest) > 2 {
		return 1, errors.New("kill takes a container and a signal")
	}
	sig := unix.SIGTERM
	if len(rest) == 2 {
		if sig, err = parseSignal(rest[1]); err != nil {
			return 1, err
		}
	}
	c, err := p.find(rest[0])
	if err != nil {
		return 1, err
	}
	if all {
		return 0, c.signalAll(p.ctx, sig)
	}
	f, err := c.pidfd()
	if err != nil {
		return 1, err
	}
	defer f.Close()
	if err := unix.PidfdSendSignal(int(f.Fd()), sig, nil, 0); err != nil {
		return 1, fmt.Errorf("container %q: send %s: %w", c.record.ID, unix.SignalName(sig), err)
	}
	return 0, nil
}

// signalAll reaches every process of the cgroup. Also a container that has ended may have left some, where it
// had no pid namespace of its own.
func (c *container) signalAll(ctx context.Context, sig unix.Signal) error {
	g, err := c.group()
	if err != nil || g == nil {
		return errors.Join(err, errors.New("the container has no cgroup that would know its processes"))
	}
	if sig == unix.SIGKILL {
		return g.Kill(ctx)
	}
	pids, err := g.Procs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // ended
		}
		// listed again after it was opened: then it is the container's
		if again, err := g.Procs(); err == nil && contains(again, pid) {
			_ = unix.PidfdSendSignal(fd, sig, nil, 0)
		}
		unix.Close(fd)
	}
	return nil
}

func contains(l []int, n int) bool {
	for _, m := range l {
		if m == n {
			return true
		}
	}
	return false
}

// parseSignal reads "TERM", "SIGTERM", "15", "RTMIN+3".
func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= 64 {
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	for base, first := range map[string]int{"SIGRTMIN": 34, "SIGRTMAX": 64} {
		if rest, ok := strings.CutPrefix(name, base); ok {
			n, err := strconv.Atoi(strings.TrimPrefix(rest, "+"))
			if rest == "" {
				n, err = 0, nil
			}
			if err == nil && first+n >= 34 && first+n <= 64 {
				return unix.Signal(first + n), nil
			}
		}
	}
	return 0, fmt.Errorf("signal %q: there is none of that name", s)
}

func (p *program) remove(args []string) (int, error) {
	var force bool
	rest, err := parse(args, []option{toggle(&force, "kill it first", "--force", "-f")})
	if err != nil {
		return 1, err
	}
	id, err := one(rest)
	if err != nil {
		return 1, err
	}
	c, err := p.find(id)
	if err != nil && force {
		return 0, p.sweep(id, err)
	}
	if err != nil {
		return 1, err
	}
	// whoever has just killed it does not have to wait
	if s := c.status(); s != specs.StateStopped && !force && !c.ending(p.ctx) {
		return 1, fmt.Errorf("container %q is %s: stop it first, or use --force", id, s)
	}
	return 0, errors.Join(c.destroy(p.ctx), c.poststop())
}

// sweep removes what is left of a container whose record is not there or not readable.
func (p *program) sweep(id string, why error) error {
	dir, err := p.dirOf(id)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil // --force: nothing there is no error
	}
	if !errors.Is(why, errNoContainer) {
		return why
	}
	// create was interrupted before it wrote whose the container is: its process, if it had one, ends with it
	c := &container{dir: dir, record: record{ID: id}}
	if c.spec, err = readSpec(filepath.Join(dir, configFile)); err != nil {
		return os.RemoveAll(dir) // nor had it a cgroup
	}
	c.record.Cgroup, c.record.More, _ = c.wanted()
	g, err := c.group()
	if errors.Is(err, cgroup.ErrNone) {
		return os.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	return errors.Join(g.Destroy(p.ctx), os.RemoveAll(dir))
}

// ending waits a little for a process that was killed.
func (c *container) ending(ctx context.Context) bool {
	f, err := c.pidfd()
	if err != nil {
		return true
	}
	defer f.Close()
	state, _, _ := processStat(c.record.Pid)
	if state != 'Z' && !killed(c.record.Pid) {
		return false
	}
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return gone(within, f) == nil
}

// killed says whether a SIGKILL is pending for the process.
func killed(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(b)) {
		for _, key := range []string{"SigPnd:", "ShdPnd:"} {
			if v, ok := strings.CutPrefix(line, key); ok {
				set, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
				if err == nil && set&(1<<(unix.SIGKILL-1)) != 0 {
					return true
				}
			}
		}
	}
	return false
}
