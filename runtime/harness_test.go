package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/jsonlog"
	"github.com/berth-engine/berth/internal/testroot"
	"github.com/berth-engine/berth/runtime"
	"github.com/berth-engine/berth/runtime/shim"
)

// TestMain is the shim, where the launcher under test has started this program as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		if err := shim.Run(context.Background(), os.NewFile(3, "launch")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv("BERTH_TEST_ENGINE"); dir != "" {
		otherEngine(dir)
	}
	os.Exit(m.Run())
}

// bench is what a test starts containers with.
type bench struct {
	t        testing.TB
	launcher *runtime.Launcher
	dir      string // its run-time and log directories are below
	tree     string // the root file system, a directory
	parent   string // cgroup
	warm     bool   // containers take slots
}

const busybox = "/bin/busybox"

func newBench(t testing.TB) *bench {
	t.Helper()
	testroot.Require(t)
	if _, err := os.Stat(busybox); err != nil {
		t.Skip("needs Debian's busybox-static")
	}
	dir := testroot.Dir(t)
	b := &bench{t: t, dir: dir, tree: filepath.Join(dir, "root"), parent: "/" + testroot.Name(t)}
	for _, d := range []string{"bin", "proc", "dev", "sys", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(b.tree, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	b.file("bin/busybox", string(program), 0o755)
	for _, name := range strings.Fields("sh cat echo sleep true false yes head stty kill ls id dd seq wc nc tr test printf readlink md5sum pwd date tee") {
		if err := os.Symlink("busybox", filepath.Join(b.tree, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	b.file("etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	opts := runtime.Options{Program: exe, ExecRoot: dir, CgroupParent: b.parent}
	if b.warm = strings.Contains(t.Name(), "/warm/"); b.warm {
		opts.Slots = 2
	}
	if b.launcher, err = runtime.New(context.Background(), opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.launcher.Close(); err != nil {
			t.Error(err)
		}
		b.checkCgroups()
	})
	if b.warm { // slots are made for what was started last
		b.warm = false
		b.run(b.config("/bin/true"))
		b.warm = true
	}
	return b
}

func (b *bench) file(name, content string, mode fs.FileMode) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.tree, name), []byte(content), mode); err != nil {
		b.t.Fatal(err)
	}
}

// checkCgroups finds what is left of cgroups.
func (b *bench) checkCgroups() {
	parents, _ := filepath.Glob("/sys/fs/cgroup/*" + b.parent)
	if _, err := os.Stat("/sys/fs/cgroup" + b.parent); err == nil {
		parents = append(parents, "/sys/fs/cgroup"+b.parent)
	}
	for _, p := range parents {
		left, _ := filepath.Glob(p + "/bt*")
		b.t.Errorf("cgroups are left: %s %v", p, left)
	}
}

// config returns the configuration of a container that runs the shell command.
func (b *bench) config(args ...string) runtime.Config {
	b.t.Helper()
	if b.warm {
		b.until("a slot waits", func() bool { return b.launcher.Waiting() > 0 })
	}
	id := b.launcher.NewID()
	dir := filepath.Join(b.dir, "c", id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	return runtime.Config{ID: id, Dir: dir, Spec: b.spec(id, args), Root: b.root(), Log: runtime.Log{Path: filepath.Join(b.dir, id+".log")}}
}

func (b *bench) spec(id string, args []string) *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: b.tree},
		Process: &specs.Process{
			Args: args, Env: []string{"PATH=/bin"}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL", "CAP_SETUID"}, Effective: []string{"CAP_KILL", "CAP_SETUID"}, Permitted: []string{"CAP_KILL", "CAP_SETUID"}},
		},
		Hostname: "box",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: b.parent + "/" + id,
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace}},
		},
	}
}

// root returns the tree as a detached mount.
func (b *bench) root() *os.File {
	b.t.Helper()
	fd, err := unix.OpenTree(unix.AT_FDCWD, b.tree, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		b.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "root")
	b.t.Cleanup(func() { f.Close() })
	return f
}

func sh(command string) []string { return []string{"/bin/sh", "-c", command} }

// container is a container that a test has started.
type container struct {
	*runtime.Shim
	b   *bench
	cfg runtime.Config
}

// start starts it and destroys it at the end of the test.
func (b *bench) start(cfg runtime.Config) *container {
	b.t.Helper()
	waiting := shimsOf(cfg.ID)
	s, err := b.launcher.Start(b.t.Context(), cfg)
	if now := shimsOf(cfg.ID); err == nil && b.warm && (len(waiting) == 0 || len(now) > 0 && !slices.Contains(waiting, now[0])) {
		b.t.Errorf("the container's shim did not wait for it: %v, then %v", waiting, now)
	}
	if err != nil {
		b.t.Fatalf("start %v: %v", cfg.Spec.Process.Args, err)
	}
	b.t.Cleanup(func() { b.destroy(cfg) })
	return &container{s, b, cfg}
}

func (b *bench) destroy(cfg runtime.Config) {
	b.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	if err := b.launcher.Destroy(ctx, cfg.ID, cfg.Dir, cfg.Spec.Linux.CgroupsPath); err != nil {
		b.t.Errorf("destroy: %v", err)
	}
}

// deadline is for what must end in any case.
func deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

func (c *container) wait() runtime.Exit {
	c.b.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	exit, err := c.Wait(ctx)
	if err != nil {
		c.b.t.Fatalf("wait: %v", err)
	}
	return exit
}

// text is output by stream.
type text struct{ out, err string }

func (b *bench) read(s *runtime.Stream) (text, runtime.Exit) {
	b.t.Helper()
	var o, e bytes.Buffer
	exit, err := s.Copy(&o, &e)
	if err != nil {
		b.t.Fatalf("stream: %v (so far %q %q)", err, tail(o.String()), tail(e.String()))
	}
	if err := s.Close(); err != nil {
		b.t.Errorf("close: %v", err)
	}
	return text{o.String(), e.String()}, exit
}

func tail(s string) string { return s[max(0, len(s)-200):] }

// run runs a container to its end.
func (b *bench) run(cfg runtime.Config) (text, runtime.Exit) {
	b.t.Helper()
	cfg.Attach = &runtime.AttachOptions{Stdout: true, Stderr: true}
	c := b.start(cfg)
	got, exit := b.read(c.Attached())
	if waited := c.wait(); waited.Status != exit.Status || !waited.At.Equal(exit.At) {
		b.t.Errorf("the stream says %+v, Wait %+v", exit, waited)
	}
	return got, exit
}

// logged returns the log's text.
func (b *bench) logged(cfg runtime.Config) text {
	b.t.Helper()
	r, err := jsonlog.NewReader(cfg.Log.Path, jsonlog.ReadOptions{Stdout: true, Stderr: true, Tail: -1})
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	var o, e strings.Builder
	for {
		entry, err := r.Next(b.t.Context())
		if err != nil {
			return text{o.String(), e.String()}
		}
		if entry.Stream == "stderr" {
			e.Write(entry.Line)
		} else {
			o.Write(entry.Line)
		}
	}
}

// until polls a condition; what it waits for takes no time on an idle machine.
func (b *bench) until(what string, holds func() bool) {
	b.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// shimPid returns the pid of the container's shim.
func (c *container) shimPid() int {
	c.b.t.Helper()
	var parent int
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Pid()))
	if err != nil {
		c.b.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var state string
	if _, err := fmt.Sscan(rest, &state, &parent); err != nil {
		c.b.t.Fatal(err)
	}
	return parent
}

// shimsOf lists the shims with this id in their command line, and their children that wait in a slot.
func shimsOf(id string) (pids []string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		line, _ := os.ReadFile(path)
		if string(line) == "berth-runtime\x00shim\x00"+id+"\x00" {
			pids = append(pids, path)
		}
	}
	return pids
}

// gone tells whether there is no process of this pid, or only one that has ended.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}
