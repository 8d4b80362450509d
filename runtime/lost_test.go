package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime"
	"github.com/berth-engine/berth/runtime/protocol"
)

// TestNoRecord: a container that runs, and whose run-time directory was emptied or whose record is damaged, is found by
// the cgroup that its configuration names, and killed: it is lost, not one that never ran.
func TestNoRecord(t *testing.T) {
	b := newBench(t)
	for name, damage := range map[string]func(cfg runtime.Config, shim int) error{
		"emptied": func(cfg runtime.Config, _ int) error {
			if err := os.RemoveAll(cfg.Dir); err != nil {
				return err
			}
			return os.Mkdir(cfg.Dir, 0o700)
		},
		"emptied, without a shim": func(cfg runtime.Config, shim int) error {
			return errors.Join(os.RemoveAll(cfg.Dir), endShim(b, shim))
		},
		"damaged": func(cfg runtime.Config, shim int) error {
			return errors.Join(endShim(b, shim), os.WriteFile(filepath.Join(cfg.Dir, protocol.RecordName), []byte("?"), 0o600))
		},
	} {
		cfg := b.config(sh("sleep 1000 & sleep 1000")...)
		cfg.Spec.Linux.CgroupsPath = b.parent + "/other-" + cfg.ID
		if name != "emptied" { // only the first process dies with the shim
			cfg.Spec.Linux.Namespaces = cfg.Spec.Linux.Namespaces[1:]
		}
		c := b.start(cfg)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		procs := func() string {
			v1, _ := os.ReadFile("/sys/fs/cgroup/pids" + cfg.Spec.Linux.CgroupsPath + "/cgroup.procs")
			v2, _ := os.ReadFile("/sys/fs/cgroup" + cfg.Spec.Linux.CgroupsPath + "/cgroup.procs")
			return string(v1) + string(v2)
		}
		b.until("the first process has started another", func() bool { return strings.Count(procs(), "\n") > 1 })
		if err := damage(cfg, c.shimPid()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err := b.launcher.Reconnect(t.Context(), cfg.ID, cfg.Dir, cfg.Spec.Linux.CgroupsPath)
		var ended *runtime.EndedError
		if !errors.As(err, &ended) || ended.Exit == nil || ended.Exit.Status != 137 || !ended.Exit.Lost {
			t.Errorf("%s: reconnect: %v, %+v", name, err, ended)
		}
		b.until("the container is gone", func() bool { return gone(c.Pid()) })
		if left := procs(); left != "" {
			t.Errorf("%s: processes are left: %s", name, left)
		}
		if err := b.launcher.Destroy(t.Context(), cfg.ID, cfg.Dir, cfg.Spec.Linux.CgroupsPath); err != nil {
			t.Errorf("%s: destroy: %v", name, err)
		}
		if _, err := b.launcher.Reconnect(t.Context(), cfg.ID, cfg.Dir, cfg.Spec.Linux.CgroupsPath); !errors.As(err, &ended) || ended.Exit != nil {
			t.Errorf("%s: after everything is gone: %v", name, err)
		}
	}
}

// TestStartAfterLoss: a container whose shim was killed starts again in the same directory and cgroup, at once: one that
// the engine saw go, one that the next engine finds gone, whatever the record says by then, and one that was paused.
func TestStartAfterLoss(t *testing.T) {
	b := newBench(t)
	for name, test := range map[string]struct {
		paused bool
		later  func(dir string) error // before the next engine comes; nil: this one stays
	}{
		"seen":            {},
		"paused":          {paused: true},
		"later":           {later: func(string) error { return nil }},
		"later, paused":   {paused: true, later: func(string) error { return nil }},
		"before it told":  {later: endRecord},
		"before it wrote": {later: func(dir string) error { return os.Remove(filepath.Join(dir, protocol.RecordName)) }},
		"damaged record":  {later: func(dir string) error { return os.WriteFile(filepath.Join(dir, protocol.RecordName), nil, 0o600) }},
	} {
		cfg := b.config("/bin/sleep", "1000")
		c := b.start(cfg)
		if test.paused {
			if err := c.Pause(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		shim := c.shimPid()
		if test.later == nil {
			if err := endShim(b, shim); err != nil {
				t.Fatal(err)
			}
			c.wait()
		} else {
			if err := errors.Join(c.Close(), endShim(b, shim), test.later(cfg.Dir)); err != nil {
				t.Fatal(err)
			}
			_, err := b.launcher.Reconnect(t.Context(), cfg.ID, cfg.Dir, cfg.Spec.Linux.CgroupsPath)
			var ended *runtime.EndedError
			if !errors.As(err, &ended) {
				t.Fatalf("%s: reconnect: %v", name, err)
			}
		}
		cfg.Root = b.root()
		s, err := b.launcher.Start(t.Context(), cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if state, err := s.State(t.Context()); err != nil || state.Pid != s.Pid() {
			t.Errorf("%s: the shim says %+v, %v", name, state, err)
		}
		if err := s.Signal(t.Context(), 9, false); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if exit := (&container{s, b, cfg}).wait(); exit.Status != 137 || exit.Lost {
			t.Errorf("%s: %+v", name, exit)
		}
	}
}

// endRecord makes the record say that the container has ended.
func endRecord(dir string) error {
	r, err := protocol.ReadRecord(dir)
	if err != nil {
		return err
	}
	f, err := protocol.OpenRecord(dir)
	if err != nil {
		return err
	}
	r.Exit = &protocol.ExitReport{Status: 3, At: time.Now()}
	return errors.Join(f.Write(r), f.Close())
}

// endShim kills a shim and waits until it is gone.
func endShim(b *bench, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	b.until("the shim is gone", func() bool { return gone(pid) })
	return nil
}

// TestDestroyWithoutRecord: the container is killed by the cgroup that its configuration names.
func TestDestroyWithoutRecord(t *testing.T) {
	b := newBench(t)
	cfg := b.config("/bin/sleep", "1000")
	cfg.Spec.Linux.CgroupsPath = b.parent + "/other-" + cfg.ID
	c := b.start(cfg)
	if err := os.Remove(filepath.Join(cfg.Dir, protocol.RecordName)); err != nil {
		t.Fatal(err)
	}
	if err := b.launcher.Destroy(t.Context(), cfg.ID, cfg.Dir, cfg.Spec.Linux.CgroupsPath); err != nil {
		t.Error(err)
	}
	b.until("the container is gone", func() bool { return gone(c.Pid()) })
}

// TestSilentShim: a shim that does not answer is waited for no longer than it may take. Reconnect leaves it as it is;
// Destroy kills it with its container.
func TestSilentShim(t *testing.T) {
	b := newBench(t)
	cfg := b.config("/bin/sleep", "1000")
	c := b.start(cfg)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	shim := c.shimPid()
	wake := func() { _ = syscall.Kill(shim, syscall.SIGCONT) }
	stop(b, shim)
	defer wake()
	b.launcher.SetPatience(100 * time.Millisecond)
	if _, err := b.launcher.Reconnect(t.Context(), cfg.ID, cfg.Dir, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reconnect: %v", err)
	}
	if gone(c.Pid()) {
		t.Fatal("the container was not left as it is")
	}
	wake()
	b.launcher.SetPatience(time.Minute)
	s, err := b.launcher.Reconnect(t.Context(), cfg.ID, cfg.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	stop(b, shim)
	b.launcher.SetPatience(time.Second) // it passes once, and is enough for killing what does not answer
	defer b.launcher.SetPatience(time.Minute)
	if err := b.launcher.Destroy(t.Context(), cfg.ID, cfg.Dir, ""); err != nil {
		t.Errorf("destroy: %v", err)
	}
	b.until("the shim is gone", func() bool { return gone(shim) })
	if !gone(c.Pid()) {
		t.Error("the container is still there")
	}
	if left, err := os.ReadDir(cfg.Dir); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool {
		return e.Name() == protocol.SocketName || e.Name() == protocol.RecordName
	}) {
		t.Errorf("left in the run-time directory: %v, %v", left, err)
	}
}

// TestOpenListener: a process is opened by its pid only while it is the one that listens. One that is not, or is gone, is
// no shim that could not be killed.
func TestOpenListener(t *testing.T) {
	b := newBench(t)
	cfg := b.config("/bin/sleep", "1000")
	shim := b.start(cfg).shimPid()
	fd, err := runtime.OpenListener(cfg.Dir, shim)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
	if _, err := runtime.OpenListener(cfg.Dir, os.Getpid()); !runtime.IsAbsent(err) {
		t.Errorf("another process: %v", err)
	}
	ended := exec.Command("/bin/true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := runtime.OpenListener(cfg.Dir, ended.Process.Pid); !runtime.IsAbsent(err) {
		t.Errorf("a process that has ended: %v", err)
	}
}

// TestForeignShim: a shim that the record does not name is not killed, though it does not answer.
func TestForeignShim(t *testing.T) {
	b := newBench(t)
	cfg := b.config("/bin/sleep", "1000")
	c := b.start(cfg)
	shim := c.shimPid()
	record, err := protocol.ReadRecord(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	other := record
	other.Shim++
	rewrite(b, cfg.Dir, other)
	stop(b, shim)
	wake := func() { _ = syscall.Kill(shim, syscall.SIGCONT) }
	defer wake()
	b.launcher.SetPatience(100 * time.Millisecond)
	err = b.launcher.Destroy(t.Context(), cfg.ID, cfg.Dir, "")
	if err == nil || !strings.Contains(err.Error(), "is not killed") {
		t.Errorf("destroy: %v", err)
	}
	if gone(shim) {
		t.Error("the shim was killed")
	}
	b.launcher.SetPatience(time.Minute)
	rewrite(b, cfg.Dir, record)
	wake()
	if err := b.launcher.Destroy(t.Context(), cfg.ID, cfg.Dir, ""); err != nil {
		t.Error(err)
	}
}

func rewrite(b *bench, dir string, r protocol.Record) {
	b.t.Helper()
	f, err := protocol.OpenRecord(dir)
	if err == nil {
		err = errors.Join(f.Write(r), f.Close())
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// stop stops a process, and returns when none of its threads runs.
func stop(b *bench, pid int) {
	b.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		b.t.Fatal(err)
	}
	b.until("the process has stopped", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		return len(threads) > 0 && !slices.ContainsFunc(threads, func(path string) bool {
			stat, err := os.ReadFile(path)
			_, rest, _ := strings.Cut(string(stat), ") ")
			return err == nil && !strings.HasPrefix(rest, "T")
		})
	})
}
