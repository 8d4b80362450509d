package runtime_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime"
	"github.com/berth-engine/berth/runtime/protocol"
)

func TestOutOfMemory(t *testing.T) {
	b := newBench(t)
	cfg := b.config(sh("x=$(yes | head -c 200000000); echo survived")...)
	limit := int64(16 << 20)
	cfg.Spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}
	if got, exit := b.run(cfg); exit.Status != 137 || !exit.OOMKilled || got.out != "" {
		t.Errorf("%q, %+v", got.out, exit)
	}
	cfg = b.config(sh("kill -9 $$; exit 3")...) // no OOM: process 1 does not feel it, and ends by itself
	cfg.Spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	if _, exit := b.run(cfg); exit.Status != 3 || exit.OOMKilled {
		t.Errorf("%+v", exit)
	}
}

func TestPauseAndUpdate(t *testing.T) {
	b := newBench(t)
	c := b.start(b.config(sh("while :; do :; done")...))
	if err := c.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, err := c.Stats()
	if err != nil || before.Pids == 0 {
		t.Fatalf("%+v, %v", before, err)
	}
	limit := int64(99)
	if err := c.Update(t.Context(), &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &limit}}); err != nil {
		t.Fatal(err)
	}
	after, err := c.Stats()
	if err != nil || after.CPU != before.CPU || after.PidsLimit != 99 {
		t.Errorf("frozen: %+v, then %+v, %v", before, after, err)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.until("it runs again", func() bool {
		s, err := c.Stats()
		return err == nil && s.CPU > after.CPU
	})
	if err := c.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.destroy(c.cfg) // a frozen container can be killed
	if exit := c.wait(); exit.Status != 137 {
		t.Errorf("%+v", exit)
	}
}

// TestKillPaused: a frozen container takes KILL.
func TestKillPaused(t *testing.T) {
	b := newBench(t)
	for _, all := range []bool{false, true} {
		c := b.start(b.config(sh("sleep 1000 & sleep 1000")...))
		if err := c.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Signal(t.Context(), 9, all); err != nil {
			t.Fatal(err)
		}
		if exit := c.wait(); exit.Status != 137 {
			t.Errorf("%+v", exit)
		}
	}
}

// TestHostPids: in the host's pid namespace nothing dies with the first process, and orphans come to the shim.
func TestHostPids(t *testing.T) {
	b := newBench(t)
	config := func(command string) runtime.Config {
		cfg := b.config(sh(command)...)
		cfg.Spec.Linux.Namespaces = cfg.Spec.Linux.Namespaces[1:]
		cfg.Attach = &runtime.AttachOptions{Stdout: true}
		return cfg
	}
	c := b.start(config("sleep 1000 & echo $!"))
	got, exit := b.read(c.Attached())
	left := atoi(strings.TrimSpace(got.out))
	if exit.Status != 0 {
		t.Errorf("%+v", exit)
	}
	b.until("what the container left is gone", func() bool { return gone(left) })

	c = b.start(config("(true & exec true); (sleep 0.01 & echo $!); exec sleep 1000"))
	_, p, err := c.Attached().Next()
	if err != nil {
		t.Fatal(err)
	}
	orphan := "/proc/" + strings.TrimSpace(string(p))
	b.until("the shim has reaped an orphan", func() bool {
		_, err := os.Stat(orphan)
		return os.IsNotExist(err)
	})
	if p, err := c.Exec(t.Context(), runtime.ExecConfig{Process: &specs.Process{Args: sh("exit 5"), Env: []string{"PATH=/bin"}, Cwd: "/"}}); err != nil {
		t.Error(err)
	} else if exit, err := p.Wait(t.Context()); err != nil || exit.Status != 5 {
		t.Errorf("exec: %+v, %v", exit, err)
	}

	// Who loses its shim is killed by its cgroup, also what PDEATHSIG does not reach.
	c2 := b.start(config("sleep 1000 & echo $!; wait"))
	_, p, err = c2.Attached().Next()
	if err != nil {
		t.Fatal(err)
	}
	child := atoi(strings.TrimSpace(string(p)))
	if err := syscall.Kill(c2.shimPid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := c2.wait(); exit.Status != 137 || !exit.Lost {
		t.Errorf("%+v", exit)
	}
	b.until("the child is gone", func() bool { return gone(child) })
	for _, c := range []*container{c, c2} {
		if err := c.Attached().Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestInit(t *testing.T) {
	b := newBench(t)
	cfg := b.config(sh("echo $$; exit 6")...)
	cfg.Init = true
	if got, exit := b.run(cfg); got.out == "1\n" || exit.Status != 6 {
		t.Errorf("%q, %+v", got.out, exit)
	}
	cfg = b.config(sh("trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.01; done")...)
	cfg.Init = true
	cfg.Attach = &runtime.AttachOptions{Stdout: true}
	c := b.start(cfg)
	if _, p, err := c.Attached().Next(); err != nil || string(p) != "ready\n" {
		t.Fatalf("%q, %v", p, err)
	}
	if err := c.Signal(t.Context(), int(syscall.SIGTERM), false); err != nil {
		t.Fatal(err)
	}
	if got, exit := b.read(c.Attached()); got.out != "term\n" || exit.Status != 7 {
		t.Errorf("%q, %+v", got.out, exit)
	}
}

func TestSignalAll(t *testing.T) {
	b := newBench(t)
	cfg := b.config(sh("trap 'echo parent' USR1; (trap 'echo child; exit' USR1; echo ready; while :; do sleep 0.01; done) & wait; wait; exit 8")...)
	cfg.Attach = &runtime.AttachOptions{Stdout: true}
	c := b.start(cfg)
	if _, p, err := c.Attached().Next(); err != nil || string(p) != "ready\n" {
		t.Fatalf("%q, %v", p, err)
	}
	if err := c.Signal(t.Context(), int(syscall.SIGUSR1), true); err != nil {
		t.Fatal(err)
	}
	got, exit := b.read(c.Attached())
	if !strings.Contains(got.out, "child\n") || !strings.Contains(got.out, "parent\n") || exit.Status != 8 {
		t.Errorf("%q, %+v", got.out, exit)
	}
}

func TestSeccomp(t *testing.T) {
	b := newBench(t)
	cfg := b.config(sh("mkdir /tmp/x; echo $?; echo no > /tmp/y && echo written")...)
	errno := uint(unix.EXDEV)
	cfg.Spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &errno}}}
	if err := os.Symlink("busybox", filepath.Join(b.tree, "bin/mkdir")); err != nil {
		t.Fatal(err)
	}
	if got, _ := b.run(cfg); !strings.Contains(got.err, "cross-device") || got.out != "1\nwritten\n" {
		t.Errorf("%+v", got)
	}
	// An exec is under the container's filter.
	cfg = b.config("/bin/sleep", "1000")
	cfg.Spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &errno}}}
	c := b.start(cfg)
	p, err := c.Exec(t.Context(), runtime.ExecConfig{Process: &specs.Process{Args: []string{"mkdir", "/tmp/z"}, Env: []string{"PATH=/bin"}, Cwd: "/"}, Attach: runtime.AttachOptions{Stderr: true}})
	if err != nil {
		t.Fatal(err)
	}
	if got, exit := b.read(p.Stream()); !strings.Contains(got.err, "cross-device") || exit.Status != 1 {
		t.Errorf("%+v, %+v", got, exit)
	}
	cfg = b.config("/bin/true")
	cfg.Spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: "nonsense"}
	if _, err := b.launcher.Start(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "unknown action") {
		t.Errorf("%v", err)
	}
}

// TestFullDisk: the exit record and the end are there, though the disk was full when the container ended; the log has
// lost lines, and counts them.
func TestFullDisk(t *testing.T) {
	b := newBench(t)
	disk := filepath.Join(b.dir, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bt", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	cfg := b.config(sh("read x; seq 1 10000; exit 4")...)
	cfg.Dir = filepath.Join(disk, "c")
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.Log.Path = filepath.Join(disk, "log")
	cfg.Stdin, cfg.Attach = runtime.StdinOnce, &runtime.AttachOptions{Stdin: true, Stdout: true}
	c := b.start(cfg)
	fill, err := os.Create(filepath.Join(disk, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 512))
	}
	if err := fill.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Attached().CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, exit := b.read(c.Attached())
	if !strings.HasSuffix(got.out, "\n10000\n") || exit.Status != 4 || exit.LogEnd.Dropped == 0 {
		t.Errorf("%d bytes, %+v", len(got.out), exit)
	}
	if r, err := protocol.ReadRecord(cfg.Dir); err != nil || r.Exit == nil || r.Exit.Status != 4 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestDescriptors: streams, execs and questions leave no descriptor in the shim.
func TestDescriptors(t *testing.T) {
	b := newBench(t)
	c := b.start(b.config("/bin/sleep", "1000"))
	count := func() int {
		fds, err := os.ReadDir(filepath.Join("/proc", itoa(c.shimPid()), "fd"))
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	use := func() {
		for range 10 {
			s, err := c.Attach(t.Context(), runtime.AttachOptions{Stdin: true, Stdout: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			for _, terminal := range []bool{false, true} {
				p, err := c.Exec(t.Context(), runtime.ExecConfig{Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/", Terminal: terminal}, Attach: runtime.AttachOptions{Stdin: true, Stdout: true}})
				if err != nil {
					t.Fatal(err)
				}
				b.read(p.Stream())
			}
			if _, err := c.Exec(t.Context(), runtime.ExecConfig{Process: &specs.Process{Args: []string{"/nothing"}, Cwd: "/"}}); err == nil {
				t.Fatal("nothing was executed")
			}
			if _, err := c.State(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	use()
	before := count()
	use()
	b.until("the shim has as many descriptors as before", func() bool { return count() <= before })
}
