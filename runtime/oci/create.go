package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/berth-engine/berth/internal/plainfile"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/cleanup"
	"github.com/berth-engine/berth/runtime/cgroup"
	"github.com/berth-engine/berth/runtime/compile"
	"github.com/berth-engine/berth/runtime/script"
	"github.com/berth-engine/berth/runtime/seccomp"
)

// createFlags are the flags of create and run.
type createFlags struct {
	bundle, pidFile, consoleSocket string
	preserveFDs                    int
	noPivot, noNewKeyring          bool
	detach, keep                   bool
	dryRun                         bool
}

func (f *createFlags) options() []option {
	return []option{
		text(&f.bundle, "directory of config.json (default: here)", "--bundle", "-b"),
		text(&f.pidFile, "file to write the pid to", "--pid-file"),
		text(&f.consoleSocket, "unix socket that gets the terminal", "--console-socket"),
		parsed(func(v string) (err error) { f.preserveFDs, err = strconv.Atoi(v); return err }, "descriptors from 3 on that the program gets", "--preserve-fds"),
		toggle(&f.noPivot, "refused", "--no-pivot"),
		toggle(&f.noNewKeyring, "keep the caller's session keyring", "--no-new-keyring"),
		toggle(&f.dryRun, "print the system calls of the start, and make nothing", "--dry-run"),
	}
}

func (p *program) create(args []string) (int, error) {
	var f createFlags
	rest, err := parse(args, f.options())
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
	b, err := readBundle(f.bundle)
	if err != nil {
		return 1, err
	}
	_, _, err = p.make(id, f, b, true, streams{})
	return 0, err
}

// streams are what the process gets where the caller keeps them: nil, the caller's own.
type streams struct {
	stdio   [3]*os.File
	console *os.File
}

// make makes a container of a bundle: one that waits for start, or one that runs. Nothing is left of one that fails.
func (p *program) make(id string, f createFlags, b bundle, waits bool, s streams) (_ *container, _ *script.Child, err error) {
	undo := cleanup.New()
	defer undo.Run(&err)
	c, err := p.claim(id, f, b)
	if err != nil {
		return nil, nil, err
	}
	undo.Add(func() error { return c.destroy(p.ctx) })
	in, err := p.inputs(c, f, s)
	if err != nil {
		return nil, nil, err
	}
	defer closeAll(in)
	if waits {
		if err := c.waiting(&in); err != nil {
			return nil, nil, err
		}
	}
	plan, err := compile.Start(c.spec, in)
	if err != nil {
		return nil, nil, fmt.Errorf("container %q: %w", id, err)
	}
	// The plan is not closed: this program ends soon, and taking its memory away would interrupt every processor.
	child, err := plan.Launch() // its death signal is for the end of our thread; none ends before this program
	if err != nil {
		return nil, nil, explain(id, err)
	}
	if err := c.started(child, f.pidFile); err != nil {
		return nil, nil, err
	}
	undo.Cancel()
	return c, child, nil
}

// bundle is a directory with a configuration.
type bundle struct {
	dir    string // absolute
	config []byte // as it is there
	spec   *specs.Spec
}

func readBundle(dir string) (b bundle, err error) {
	if b.dir, err = filepath.Abs(dir); err != nil {
		return b, err
	}
	if b.config, err = plainfile.Read(filepath.Join(b.dir, configFile)); err != nil {
		return b, fmt.Errorf("bundle %s: %w", b.dir, err)
	}
	if b.spec, err = parseSpec(b.config); err != nil {
		return b, fmt.Errorf("bundle %s: %s: %w", b.dir, configFile, err)
	}
	return b, nil
}

// claim makes the container's directory. Whoever makes it owns the id.
func (p *program) claim(id string, f createFlags, b bundle) (*container, error) {
	if p.systemd {
		return nil, errors.New("the systemd cgroup driver is not supported: use cgroupfs (podman: --cgroup-manager=cgroupfs)")
	}
	if f.noPivot {
		return nil, errors.New("--no-pivot: a container whose root is only hidden can be left; not supported")
	}
	dir, err := p.dirOf(id)
	if err != nil {
		return nil, err
	}
	c := &container{dir: dir, spec: b.spec}
	c.record = record{Version: specs.Version, ID: id, Bundle: b.dir, Created: time.Now().UTC(), Annotations: c.spec.Annotations, Owner: os.Geteuid()}
	if err := os.MkdirAll(p.root, 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("container %q: there is one with that id already", id)
	} else if err != nil {
		return nil, err
	}
	if err := plainfile.Write(filepath.Join(dir, configFile), b.config, 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

// inputs is everything that the start needs beyond the configuration.
func (p *program) inputs(c *container, f createFlags, s streams) (in compile.Inputs, err error) {
	in = compile.Inputs{Bundle: c.record.Bundle, Stdio: s.stdio, Console: s.console, PreserveFDs: f.preserveFDs, NoNewKeyring: f.noNewKeyring, Host: compile.ThisHost(), Share: true}
	defer func() {
		if err != nil {
			closeAll(in)
		}
	}()
	if c.spec.Process != nil {
		setHome(c.spec.Process, filepath.Join(c.rootPath(), "/"))
		if c.spec.Process.Terminal && in.Console == nil {
			if in.Console, err = dialConsole(f.consoleSocket); err != nil {
				return in, err
			}
		}
	}
	if in.Cgroup, err = c.makeGroup(); err != nil {
		return in, err
	}
	if c.spec.Linux != nil && c.spec.Linux.Seccomp != nil {
		program, err := seccomp.Compile(c.spec.Linux.Seccomp, runtime.GOARCH)
		if err != nil {
			return in, fmt.Errorf("seccomp: %w", err)
		}
		in.Filter, in.FilterFlags = program.BPF, program.Flags
	}
	if h := c.spec.Hooks; h != nil {
		in.Created = func(pid int) error { return c.runtimeHooks(pid) }
		in.State = func(pid int) ([]byte, error) {
			c.record.Pid = pid
			return json.Marshal(c.state(specs.StateCreating))
		}
	}
	return in, nil
}

// closeAll closes what inputs opened.
func closeAll(in compile.Inputs) {
	_ = in.Cgroup.Close()
	for _, f := range []*os.File{in.Console, in.Wait, in.Done, in.Record} {
		if f != nil {
			_ = f.Close()
		}
	}
}

func (c *container) rootPath() string {
	if c.spec.Root == nil {
		return ""
	}
	if filepath.IsAbs(c.spec.Root.Path) {
		return c.spec.Root.Path
	}
	return filepath.Join(c.record.Bundle, c.spec.Root.Path)
}

// makeGroup makes the cgroup with its limits.
func (c *container) makeGroup() (*cgroup.Join, error) {
	system, err := cgroup.Find()
	if errors.Is(err, cgroup.ErrNone) {
		if c.spec.Linux != nil && limited(c.spec.Linux.Resources) {
			return nil, fmt.Errorf("limits are asked for: %w", err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	name, more, limits := c.wanted()
	g, err := system.Group(name, more...)
	if err != nil {
		return nil, err
	}
	if err := g.Create(); err != nil {
		if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 && (c.spec.Linux == nil || !limited(c.spec.Linux.Resources)) {
			return nil, nil // an ordinary user without a delegated group, who asks for no limit
		}
		return nil, err
	}
	c.record.Cgroup, c.record.More, c.joined = g.Name(), more, g
	if err := g.Set(limits); err != nil {
		return nil, err
	}
	return g.Join()
}

// wanted is what the configuration says of the cgroup: its name, the version 1 controllers beside the usual ones, the
// limits.
func (c *container) wanted() (name string, more []string, limits *specs.LinuxResources) {
	name = "/" + c.record.ID
	if l := c.spec.Linux; l != nil {
		if l.CgroupsPath != "" {
			name = l.CgroupsPath
		}
		limits = withDefaultDevices(l.Resources)
	}
	return name, cgroup.More(limits), limits
}

// waiting makes what the time between create and start needs.
func (c *container) waiting(in *compile.Inputs) error {
	for _, name := range []string{startFIFO, doneFIFO} {
		if err := unix.Mkfifo(filepath.Join(c.dir, name), 0o600); err != nil {
			return &fs.PathError{Op: "mkfifo", Path: filepath.Join(c.dir, name), Err: err}
		}
	}
	var err error
	if in.Wait, err = openFIFO(filepath.Join(c.dir, startFIFO)); err != nil {
		return err
	}
	if in.Done, err = openFIFO(filepath.Join(c.dir, doneFIFO)); err != nil {
		return err
	}
	in.Record, err = os.OpenFile(filepath.Join(c.dir, scriptFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return err
}

// openFIFO opens both ends, which never waits, and as a plain descriptor: the child is to wait in its read.
func openFIFO(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// started writes down whose the container is, before anybody else is told.
func (c *container) started(child *script.Child, pidFile string) error {
	c.record.Pid = child.Pid
	_, start, err := processStat(child.Pid)
	if err != nil {
		return fmt.Errorf("container %q: its process: %w", c.record.ID, err)
	}
	c.record.PidStart = start
	if err := c.write(); err != nil {
		return err
	}
	if pidFile == "" {
		return nil
	}
	return replace(pidFile, []byte(strconv.Itoa(child.Pid)), 0o644)
}

// explain turns a failed start into a sentence. Callers look for "executable file not found" and "no such file or
// directory" to tell a missing program from everything else.
func explain(id string, err error) error {
	var f *script.Failure
	if errors.As(err, &f) && f.Exec {
		if f.Errno == unix.ENOENT && filepath.Base(f.Object) == f.Object {
			return fmt.Errorf("container %q: exec: %q: executable file not found in $PATH: %w", id, f.Object, err)
		}
		return fmt.Errorf("container %q: exec: %q: %w", id, f.Object, err)
	}
	return fmt.Errorf("container %q: %w", id, err)
}

// dryRun prints the script.
func (p *program) dryRun(id string, f createFlags) error {
	b, err := readBundle(f.bundle)
	if err != nil {
		return err
	}
	in := compile.Inputs{Bundle: b.dir, NoNewKeyring: f.noNewKeyring, Console: p.stdin}
	if b.spec.Hooks != nil {
		in.State = func(int) ([]byte, error) { return nil, nil }
	}
	plan, err := compile.Start(b.spec, in)
	if err != nil {
		return fmt.Errorf("container %q: %w", id, err)
	}
	defer plan.Close()
	_, err = p.stdout.WriteString(plan.Script.String())
	return err
}
