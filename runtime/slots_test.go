package runtime_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-engine/berth/runtime"
	"github.com/berth-engine/berth/runtime/protocol"
)

// TestSlots has containers that take warm slots pass what others pass.
func TestSlots(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"run": TestRun, "last byte": TestLastByte, "stdin": TestStdin, "terminal": TestTerminal, "exec": TestExec, "exec terminal": TestExecTerminal,
		"start errors": TestStartErrors, "shim killed": TestShimKilled, "destroy": TestDestroy, "cancelled": TestCancelledStart,
		"rootfs": TestRootfs, "published": TestPublishedTCP,
	} {
		t.Run("warm/"+name, test)
	}
}

// TestNewID: no id begins like a number, which the C library would take for an address (one in 282 random ones does).
func TestNewID(t *testing.T) {
	b := newBench(t)
	for range 5000 {
		if id := b.launcher.NewID(); len(id) != 64 || strings.Trim(id[:12], "0123456789") == "" {
			t.Fatal(id)
		}
	}
}

// newNetNS returns a network namespace of its own.
func newNetNS(t *testing.T) *os.File {
	t.Helper()
	type made struct {
		f   *os.File
		err error
	}
	done := make(chan made)
	go func() {
		lockForGood()
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			done <- made{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		done <- made{f, err}
	}()
	m := <-done
	if m.err != nil {
		t.Fatal(m.err)
	}
	t.Cleanup(func() { m.f.Close() })
	return m.f
}

// TestNetworkOfASlot: the network namespace comes with the container, and /sys shows it.
func TestNetworkOfASlot(t *testing.T) {
	t.Run("warm/network", func(t *testing.T) {
		b := newBench(t)
		inNetwork := func() runtime.Config {
			cfg := b.config("/bin/true")
			cfg.NetNS = newNetNS(t)
			cfg.Spec.Mounts = append(cfg.Spec.Mounts, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}})
			return cfg
		}
		b.warm = false // the first ones have no slot: none was modelled on them
		b.until("a container with a network of its own took a slot", func() bool {
			cfg := inNetwork()
			want, err := os.Readlink("/proc/self/fd/" + itoa(int(cfg.NetNS.Fd())))
			if err != nil {
				t.Fatal(err)
			}
			waiting := shimsOf(cfg.ID)
			cfg.Spec.Process.Args = sh("readlink /proc/self/ns/net; ls /sys/class/net; read x")
			cfg.Stdin, cfg.Attach = runtime.StdinOnce, &runtime.AttachOptions{Stdin: true, Stdout: true}
			c := b.start(cfg)
			now := shimsOf(cfg.ID)
			if err := c.Attached().CloseWrite(); err != nil {
				t.Error(err)
			}
			if got, _ := b.read(c.Attached()); got.out != want+"\nlo\n" {
				t.Errorf("%q, want %q and lo only", got.out, want)
			}
			return len(waiting) > 0 && len(now) > 0 && slices.Contains(waiting, now[0])
		})
	})
}

// TestSlotThatDoesNotFit: a container that took a slot's id and looks otherwise starts all the same.
func TestSlotThatDoesNotFit(t *testing.T) {
	t.Run("warm/other", func(t *testing.T) {
		b := newBench(t)
		cfg := b.config("/bin/echo", "started")
		b.warm = false
		cfg.Spec.Linux.Namespaces = cfg.Spec.Linux.Namespaces[:2]
		cfg.Spec.Hostname = ""
		if got, exit := b.run(cfg); got.out != "started\n" || exit.Status != 0 {
			t.Errorf("%q, %+v", got.out, exit)
		}
	})
}

// TestSlotWithoutController: the cgroup of a slot has the usual controllers only. A container that needs others
// starts all the same, and what a slot leaves that its cgroup could not serve is gone at once: nobody waits for
// its child, which is in the cgroup, to end by itself.
func TestSlotWithoutController(t *testing.T) {
	t.Run("warm/controller", func(t *testing.T) {
		b := newBench(t)
		cfg := b.config(sh("grep Cpus_allowed_list /proc/self/status")...)
		b.warm = false
		cfg.Spec.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0"}}
		if got, exit := b.run(cfg); got.out != "Cpus_allowed_list:\t0\n" || exit.Status != 0 {
			t.Errorf("%q, %+v", got.out, exit)
		}
		b.warm = true
		cfg = b.config("/bin/true")
		b.warm = false
		period := uint64(1) // microsecond: none that the kernel takes
		cfg.Spec.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Period: &period}}
		if _, err := b.launcher.Start(t.Context(), cfg); err == nil {
			t.Error("a period of 1 was taken")
		}
	})
}

// TestSlotKilled: a slot that died while it waited is no loss.
func TestSlotKilled(t *testing.T) {
	t.Run("warm/killed", func(t *testing.T) {
		b := newBench(t)
		cfg := b.config("/bin/echo", "started")
		b.warm = false
		for _, path := range shimsOf(cfg.ID) {
			if err := syscall.Kill(atoi(filepath.Base(filepath.Dir(path))), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if got, exit := b.run(cfg); got.out != "started\n" || exit.Status != 0 {
			t.Errorf("%q, %+v", got.out, exit)
		}
	})
}

// TestClose: nothing is left of the slots.
func TestClose(t *testing.T) {
	t.Run("warm/close", func(t *testing.T) {
		b := newBench(t)
		b.until("two slots wait", func() bool { return b.launcher.Waiting() == 2 })
		before := children(t)
		if len(before) < 2 {
			t.Errorf("children %v", before)
		}
		if err := b.launcher.Close(); err != nil {
			t.Fatal(err)
		}
		if after := children(t); len(after) > len(before)-2 {
			t.Errorf("children %v, then %v", before, after)
		}
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if b.launcher, err = runtime.New(context.Background(), runtime.Options{Program: exe, ExecRoot: b.dir, CgroupParent: b.parent}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestReuse: a shim keeps one container after the other, and nothing of the one before is left with it.
func TestReuse(t *testing.T) {
	t.Run("warm/reuse", func(t *testing.T) {
		b := newBench(t)
		kept := map[string]int{} // containers by shim
		const enough = 8
		first := map[string][]string{} // the descriptors of a shim that has kept one
		b.until("a shim has kept many containers", func() bool {
			cfg := b.config(sh("ls /proc/self/fd | wc -l")...)
			shims := shimsOf(cfg.ID)
			got, exit := b.run(cfg)
			if exit.Status != 0 || got.out != "4\n" {
				t.Fatalf("%+v, %+v", got, exit)
			}
			if logged := b.logged(cfg); logged != got {
				t.Fatalf("the log has %+v, not %+v", logged, got)
			}
			b.until("both slots wait again", func() bool { return b.launcher.Waiting() == 2 })
			shim := shims[slices.IndexFunc(shims, childOfOurs)] // the child that waits in it has the same name
			kept[shim]++
			b.until("it has let go of the container", func() bool { // its record is the last that it closes
				return !slices.Contains(descriptors(shim), filepath.Join(cfg.Dir, protocol.RecordName))
			})
			switch now := descriptors(shim); kept[shim] {
			case 1:
				first[shim] = now
			case enough: // whether it is a slot just now makes a difference of a few
				if len(now) > len(first[shim])+enough/2 {
					t.Fatalf("it holds %v, it held %v", now, first[shim])
				}
				return true
			}
			return false
		})
	})
}

// TestReusePublished: a shim that keeps another container has nothing left of the connections of the one before, also
// where neither side of them says anything.
func TestReusePublished(t *testing.T) {
	t.Run("warm/published", func(t *testing.T) {
		b := newBench(t)
		to := echo(t)
		cfg := b.config("/bin/sleep", "1000")
		socket, addr := published(t, "tcp")
		cfg.Listeners = []runtime.Listener{{Socket: socket, Proto: "tcp", To: to}}
		c := b.start(cfg)
		shim := c.shimPid()
		if err := socket.Close(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil { // it is carried
				t.Fatal(err)
			}
			defer func() {
				if n, err := conn.Read(make([]byte, 1)); n != 0 || os.IsTimeout(err) {
					t.Errorf("the connection is still open: %d bytes, %v", n, err)
				}
				if gone(shim) {
					t.Error("the shim was not used again")
				}
			}()
		}
		if err := c.Signal(t.Context(), 9, false); err != nil {
			t.Fatal(err)
		}
		c.wait()
	})
}

// TestRootfsOfAnEnded: a shim that keeps another container answers who still asks for the one before.
func TestRootfsOfAnEnded(t *testing.T) {
	t.Run("warm/rootfs", func(t *testing.T) {
		b := newBench(t)
		c := b.start(b.config("/bin/sleep", "1000"))
		f, err := protocol.Dial(c.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := protocol.NewConn(f, protocol.Engine, protocol.Open)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ask := func() protocol.Message {
			t.Helper()
			if err := conn.Send(protocol.Rootfs, nil); err != nil {
				t.Fatal(err)
			}
			m, err := conn.Recv()
			if err != nil {
				t.Fatal(err)
			}
			m.Close()
			return m
		}
		if m := ask(); m.Kind != protocol.Done {
			t.Errorf("while it runs: %q", rune(m.Kind))
		}
		if err := c.Signal(t.Context(), 9, false); err != nil {
			t.Fatal(err)
		}
		c.wait()
		m := ask()
		var failed protocol.Failure
		if err := m.Decode(&failed); m.Kind != protocol.Failed || err != nil || !failed.Gone {
			t.Errorf("after its end: %q %+v, %v", rune(m.Kind), failed, err)
		}
	})
}

// TestSlotOfAFailedStart: a start that fails has its slot replaced at once, as one that succeeds.
func TestSlotOfAFailedStart(t *testing.T) {
	t.Run("warm/failed", func(t *testing.T) {
		b := newBench(t)
		b.until("two slots wait", func() bool { return b.launcher.Waiting() == 2 })
		cfg := b.config("/nothing")
		nudged := b.launcher.Nudged(func() {
			if _, err := b.launcher.Start(t.Context(), cfg); err == nil {
				t.Error("a program that is not there was started")
			}
			if n := b.launcher.Waiting(); n != 1 {
				t.Errorf("%d slots wait: the start used up none", n)
			}
		})
		if !nudged {
			t.Error("nobody looks at the slots")
		}
		b.until("two slots wait again", func() bool { return b.launcher.Waiting() == 2 })
	})
}

// TestSlotsAgain: a failure that passes turns no slots off.
func TestSlotsAgain(t *testing.T) {
	t.Run("warm/again", func(t *testing.T) {
		b := newBench(t)
		b.until("two slots wait", func() bool { return b.launcher.Waiting() == 2 })
		b.launcher.SetAgain(10 * time.Millisecond)
		dir, away := filepath.Join(b.dir, "slots"), filepath.Join(b.dir, "away")
		if err := os.Rename(dir, away); err != nil { // no new shim has a place for its last words
			t.Fatal(err)
		}
		cfg := b.config("/bin/sleep", "1000")
		b.start(cfg)
		b.until("slots could not be made", func() bool { return b.launcher.Failed() > 1 })
		if err := os.Rename(away, dir); err != nil {
			t.Fatal(err)
		}
		b.until("two slots wait again", func() bool { return b.launcher.Waiting() == 2 && b.launcher.Failed() == 0 })
	})
}

// TestIdleBroken: an idle shim of which no slot can be made is no loss, and says nothing of slots.
func TestIdleBroken(t *testing.T) {
	t.Run("warm/broken", func(t *testing.T) {
		b := newBench(t)
		b.idle()
		b.launcher.SetAgain(time.Hour)
		if b.launcher.BreakIdle() == 0 {
			t.Fatal("no shim is idle")
		}
		b.start(b.config("/bin/sleep", "1000"))
		b.until("two slots wait again", func() bool { return b.launcher.Waiting() == 2 })
		if n := b.launcher.Failed(); n != 0 {
			t.Errorf("%d slots could not be made", n)
		}
	})
}

// TestScarceMemory: neither slots nor idle shims are kept where the machine is short of memory.
func TestScarceMemory(t *testing.T) {
	t.Run("warm/scarce", func(t *testing.T) {
		b := newBench(t)
		b.idle()
		b.launcher.SetScarce(true)
		b.until("nothing waits", func() bool { return b.launcher.Waiting() == 0 && b.launcher.Idle() == 0 })
		b.launcher.SetScarce(false)
		b.until("two slots wait again", func() bool { return b.launcher.Waiting() == 2 })
	})
}

// TestBusy: no slot is made beside a start, however often there would be time; afterwards they are.
func TestBusy(t *testing.T) {
	t.Run("warm/busy", func(t *testing.T) {
		b := newBench(t)
		b.until("two slots wait", func() bool { return b.launcher.Waiting() == 2 })
		var (
			busy  atomic.Bool
			asked atomic.Int32
		)
		busy.Store(true)
		b.launcher.SetBusy(func() bool {
			asked.Add(1)
			return busy.Load()
		})
		for range 2 {
			b.start(b.config("/bin/sleep", "1000"))
		}
		before := asked.Load()
		b.until("it has asked ten times", func() bool { return asked.Load() > before+10 })
		if n := b.launcher.Waiting(); n != 0 {
			t.Errorf("%d slots were made", n)
		}
		busy.Store(false)
		b.until("two slots wait again", func() bool { return b.launcher.Waiting() == 2 })
	})
}

// TestIdleIsBounded: shims are kept for the slots that are missing and for the next one, not for more.
func TestIdleIsBounded(t *testing.T) {
	t.Run("warm/bounded", func(t *testing.T) {
		b := newBench(t)
		var all []*container
		for range 4 {
			all = append(all, b.start(b.config("/bin/sleep", "1000")))
		}
		b.until("two slots wait", func() bool { return b.launcher.Waiting() == 2 })
		var shims []int
		for _, c := range all {
			shims = append(shims, c.shimPid())
			if err := c.Signal(t.Context(), 9, false); err != nil {
				t.Fatal(err)
			}
			c.wait()
		}
		b.until("one shim is idle, the others are gone", func() bool {
			left := slices.DeleteFunc(slices.Clone(shims), gone)
			return len(left) == 1 && b.launcher.Idle() == 1
		})
	})
}

// idle waits until two slots wait and a shim is idle.
func (b *bench) idle() {
	b.t.Helper()
	b.until("two slots wait", func() bool { return b.launcher.Waiting() == 2 })
	b.until("a shim is idle", func() bool {
		if b.launcher.Idle() > 0 && b.launcher.Waiting() == 2 {
			return true
		}
		c := b.start(b.config("/bin/sleep", "1000"))
		b.until("two slots wait", func() bool { return b.launcher.Waiting() == 2 })
		if err := c.Signal(b.t.Context(), 9, false); err != nil {
			b.t.Fatal(err)
		}
		c.wait()
		return false
	})
}

// childOfOurs tells whether the process of that /proc/PID/cmdline is our own child.
func childOfOurs(cmdline string) bool {
	status, _ := os.ReadFile(filepath.Join(filepath.Dir(cmdline), "status"))
	return strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid()))
}

// descriptors lists what the process of that /proc/PID/cmdline has open.
func descriptors(cmdline string) (l []string) {
	dir := filepath.Join(filepath.Dir(cmdline), "fd")
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		to, _ := os.Readlink(filepath.Join(dir, e.Name()))
		l = append(l, to)
	}
	return l
}
