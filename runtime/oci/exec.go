package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-engine/berth/runtime/compile"
	"github.com/berth-engine/berth/runtime/relay"
	"github.com/berth-engine/berth/runtime/script"
	"github.com/berth-engine/berth/runtime/seccomp"
	"github.com/berth-engine/berth/runtime/specjson"
)

// execFlags are the flags of exec.
type execFlags struct {
	process, pidFile, consoleSocket, cwd, user string
	label, apparmor, group                     string
	env, gids, caps                            []string
	tty, detach, noNewPrivs, ignorePaused      bool
	preserveFDs                                int
}

func (f *execFlags) options() []option {
	return []option{
		text(&f.process, "file with the process as JSON", "--process", "-p"),
		text(&f.pidFile, "file to write the pid to", "--pid-file"),
		text(&f.consoleSocket, "unix socket that gets the terminal", "--console-socket"),
		text(&f.cwd, "working directory", "--cwd"),
		text(&f.user, "UID[:GID]", "--user", "-u"),
		many(&f.env, "NAME=VALUE", "--env", "-e"),
		many(&f.gids, "additional group id", "--additional-gids", "-g"),
		many(&f.caps, "capability to add", "--cap", "-c"),
		toggle(&f.tty, "with a terminal", "--tty", "-t"),
		toggle(&f.detach, "do not wait", "--detach", "-d"),
		toggle(&f.noNewPrivs, "gain no privileges", "--no-new-privs"),
		toggle(&f.ignorePaused, "also in a paused container", "--ignore-paused"),
		text(&f.label, "SELinux label", "--process-label"),
		text(&f.apparmor, "AppArmor profile", "--apparmor"),
		text(&f.group, "refused", "--cgroup"),
		parsed(func(v string) (err error) { f.preserveFDs, err = strconv.Atoi(v); return err }, "descriptors from 3 on that the program gets", "--preserve-fds"),
	}
}

func (p *program) exec(args []string) (int, error) {
	var f execFlags
	rest, err := parse(args, f.options())
	if err != nil {
		return 1, err
	}
	if len(rest) == 0 || len(rest) == 1 && f.process == "" {
		return 1, errors.New("exec takes a container and a command")
	}
	if f.group != "" {
		return 1, errors.New("--cgroup: a process can only be in its container's group")
	}
	if !f.detach { // before there is anybody who could be left alone
		if err := relay.Catch(forwarded...); err != nil {
			return 1, err
		}
	}
	c, err := p.find(rest[0])
	if err != nil {
		return 1, err
	}
	process, err := c.processFor(f, rest[1:])
	if err != nil {
		return 1, err
	}
	if s := c.status(); s != specs.StateRunning && s != specs.StateCreated {
		return 1, fmt.Errorf("container %q is %s: nothing can be executed in it", c.record.ID, s)
	}
	if c.paused() && !f.ignorePaused {
		return 1, fmt.Errorf("container %q is paused: resume it first", c.record.ID)
	}
	var t *terminal
	if process.Terminal && f.consoleSocket == "" && !f.detach {
		if t, err = p.newTerminal(); err != nil {
			return 1, err
		}
	}
	defer t.close()
	child, err := p.enter(c, f, process, t)
	if err != nil {
		return 1, explain(c.record.ID, err)
	}
	defer child.PidFD.Close()
	if f.pidFile != "" {
		if err := replace(f.pidFile, []byte(strconv.Itoa(child.Pid)), 0o644); err != nil {
			return 1, err
		}
	}
	if f.detach {
		return 0, nil
	}
	return p.attend(child.Pid, t, func() error { return nil })
}

// enter starts the process in the container.
func (p *program) enter(c *container, f execFlags, process *specs.Process, t *terminal) (*script.Child, error) {
	in := compile.ExecInputs{Inputs: compile.Inputs{Console: t.socket(), PreserveFDs: f.preserveFDs, Host: compile.ThisHost()}}
	var err error
	if in.Target, err = c.pidfd(); err != nil {
		return nil, err
	}
	defer in.Target.Close()
	if in.Namespaces, err = compile.NamespacesOf(c.record.Pid); err != nil {
		return nil, err
	}
	if process.Terminal && in.Console == nil {
		if in.Console, err = dialConsole(f.consoleSocket); err != nil {
			return nil, err
		}
		defer in.Console.Close()
	}
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	if g != nil {
		if in.Cgroup, err = g.Join(); err != nil {
			return nil, err
		}
		defer in.Cgroup.Close()
	}
	if c.spec.Linux != nil && c.spec.Linux.Seccomp != nil {
		program, err := seccomp.Compile(c.spec.Linux.Seccomp, runtime.GOARCH)
		if err != nil {
			return nil, fmt.Errorf("seccomp: %w", err)
		}
		in.Filter, in.FilterFlags = program.BPF, program.Flags
	}
	plan, err := compile.Exec(process, in)
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	return plan.Launch()
}

// processFor is the process of --process, or the container's own with what the flags change.
func (c *container) processFor(f execFlags, command []string) (*specs.Process, error) {
	if f.process != "" {
		b, err := os.ReadFile(f.process)
		if err != nil {
			return nil, err
		}
		process, err := specjson.Process(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.process, err)
		}
		if f.tty {
			process.Terminal = true
		}
		setHome(process, c.procRoot())
		return process, nil
	}
	if c.spec.Process == nil {
		return nil, fmt.Errorf("container %q has no process of its own to go by: use --process", c.record.ID)
	}
	process := *c.spec.Process
	process.Args, process.Terminal, process.ConsoleSize = command, f.tty, nil
	process.Env = append(append([]string(nil), process.Env...), f.env...)
	if f.cwd != "" {
		process.Cwd = f.cwd
	}
	if f.noNewPrivs {
		process.NoNewPrivileges = true
	}
	if f.label != "" {
		process.SelinuxLabel = f.label
	}
	if f.apparmor != "" {
		process.ApparmorProfile = f.apparmor
	}
	process.Capabilities = withCapabilities(process.Capabilities, f.caps)
	if err := setUser(&process.User, f); err != nil {
		return nil, err
	}
	setHome(&process, c.procRoot())
	return &process, nil
}

// procRoot is the container's root as it is now.
func (c *container) procRoot() string {
	return filepath.Join("/proc", strconv.Itoa(c.record.Pid), "root") + "/"
}

func withCapabilities(c *specs.LinuxCapabilities, more []string) *specs.LinuxCapabilities {
	if len(more) == 0 {
		return c
	}
	var sum specs.LinuxCapabilities
	if c != nil {
		sum = *c
	}
	add := func(l []string) []string { return append(append([]string(nil), l...), more...) }
	sum.Bounding, sum.Effective, sum.Permitted = add(sum.Bounding), add(sum.Effective), add(sum.Permitted)
	return &sum
}

func setUser(u *specs.User, f execFlags) error {
	if f.user != "" {
		uid, gid, both := strings.Cut(f.user, ":")
		n, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			return fmt.Errorf("user %q: it must be UID[:GID], as numbers", f.user)
		}
		*u = specs.User{UID: uint32(n), GID: u.GID, Umask: u.Umask}
		if both {
			if n, err = strconv.ParseUint(gid, 10, 32); err != nil {
				return fmt.Errorf("user %q: it must be UID[:GID], as numbers", f.user)
			}
			u.GID = uint32(n)
		}
	}
	for _, g := range f.gids {
		n, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return fmt.Errorf("additional group %q: it must be a number", g)
		}
		u.AdditionalGids = append(u.AdditionalGids, uint32(n))
	}
	return nil
}
