package script

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A child that plays in our memory is met like any other, while the rest of us goes on allocating and collecting.
func TestShareWhileTheParentWorks(t *testing.T) {
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() {
			var kept [][]byte
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				kept = append(kept, make([]byte, 1<<12))
				if len(kept) == 1000 {
					kept = nil
					runtime.GC()
				}
			}
		})
	}
	defer busy.Wait()
	defer close(stop)
	for range 100 {
		s := newScript(t)
		in := s.Wait("here")
		c := start(t, s, StartOptions{Share: true})
		if err := c.Meet(); err != nil {
			t.Fatal(err)
		}
		d := s.Reg("standard input")
		s.Take(in, d)
		n, again, done := s.Reg("n"), s.Label(), s.Label()
		s.Set(n, 0)
		s.Mark(again)
		s.Do("ask for the pid", unix.SYS_GETPID)
		s.Compute(n, n, Add, 1)
		s.Expect("often enough", n, All, Equal, 100, 0).Else(again).Then(done)
		s.Mark(done)
		program(s, "exit 9")
		if err := c.Go(os.Stdin); err != nil {
			t.Fatal(err)
		}
		if got := exitStatus(t, c); got != 9 {
			t.Fatalf("exit status %d, want 9", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A signal that comes before its handlers are reset would run our handler where there is no goroutine.
func TestShareBlocksSignals(t *testing.T) {
	s := newScript(t)
	s.Meet("here")
	program(s, "exit 0")
	c := start(t, s, StartOptions{Share: true})
	if err := c.Meet(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	blocked := ""
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "SigBlk:"); ok {
			blocked = strings.TrimSpace(v)
		}
	}
	if blocked != "fffffffffffbfeff" { // all but SIGKILL and SIGSTOP
		t.Errorf("blocked signals %q", blocked)
	}
	c.Abandon()
}

// A child that shares our memory and is killed leaves us alone.
func TestShareAbandon(t *testing.T) {
	for range 20 {
		s := newScript(t)
		s.Meet("for ever")
		c := start(t, s, StartOptions{Share: true})
		if err := c.Meet(); err != nil {
			t.Fatal(err)
		}
		c.Abandon()
		if err := unix.Kill(c.Pid, 0); err != unix.ESRCH {
			t.Errorf("it is still there: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The memory stays as long as the child plays in it, whatever its parent does.
func TestShareKeepsMemory(t *testing.T) {
	s := newScript(t)
	s.Meet("here")
	c := start(t, s, StartOptions{Share: true})
	if err := c.Meet(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); !errors.Is(err, errPlayed) {
		t.Fatalf("closed while it is played: %v", err)
	}
	program(s, "exit 4")
	if err := c.Go(); err != nil {
		t.Fatal(err)
	}
	if got := exitStatus(t, c); got != 4 {
		t.Errorf("exit status %d, want 4", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A child that is elsewhere than its parent believes is not left to itself.
func TestOutOfStep(t *testing.T) {
	for _, share := range []bool{false, true} {
		for name, meet := range map[string]func(*Child) error{
			"it waits, its program is expected": func(c *Child) error { return c.Started() },
			"it runs, a meeting is expected":    func(c *Child) error { return errors.Join(c.Meet(), c.Go(), c.Meet()) },
			"it comes to another meeting":       func(c *Child) error { c.met = 7; return c.Meet() },
		} {
			s := newScript(t)
			s.Meet("here")
			program(s, "exec sleep 1000")
			c := start(t, s, StartOptions{Share: share})
			if meet(c) == nil {
				t.Errorf("share %v: %s: no error", share, name)
			}
			if err := unix.Kill(c.Pid, 0); !errors.Is(err, unix.ESRCH) {
				t.Errorf("share %v: %s: it is still there: %v", share, name, err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("share %v: %s: %v", share, name, err)
			}
		}
	}
}

// A process that it makes has registers of its own.
func TestShareAndFork(t *testing.T) {
	s := newScript(t)
	pid, n, status := s.Reg("pid"), s.Reg("n"), s.Reg("status")
	ws, inParent := s.Room("wait status", 4), s.Label()
	s.Set(n, 5)
	s.Do("fork", unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0).To(pid)
	s.Expect("in the child", pid, All, Equal, 0, 0).Else(inParent)
	s.Quiet(1)
	s.Compute(n, n, Add, 1)
	s.Do("end", unix.SYS_EXIT_GROUP, n)
	s.Mark(inParent)
	s.Do("wait", unix.SYS_WAIT4, pid, ws, 0, 0)
	s.Load(status, ws, 0, 4)
	s.Expect("the child's own", status, All, Equal, 6<<8, unix.EPROTO)
	s.Expect("ours", n, All, Equal, 5, unix.EPROTO)
	program(s, "exit 3")
	if got := exitStatus(t, start(t, s, StartOptions{Share: true})); got != 3 {
		t.Errorf("exit status %d, want 3", got)
	}
}

// What goes on beside the program would keep our memory.
func TestShareRefusesAside(t *testing.T) {
	s := newScript(t)
	s.Aside("fork", s.Reg("child"), s.Label())
	if _, err := s.Start(StartOptions{Share: true}); err == nil {
		t.Error("it was started")
	}

	s = newScript(t)
	s.Meet("here")
	c := start(t, s, StartOptions{Share: true})
	if err := c.Meet(); err != nil {
		t.Fatal(err)
	}
	defer c.Abandon()
	s.Aside("fork", s.Reg("child"), s.Label())
	if err := c.Go(); !errors.Is(err, errAside) {
		t.Errorf("error %v, want %v", err, errAside)
	}
}
