package runtime_test

import (
	"crypto/md5"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-engine/berth/runtime"
	"github.com/berth-engine/berth/runtime/protocol"
)

func TestRun(t *testing.T) {
	b := newBench(t)
	cfg := b.config(sh("echo out; echo err >&2; exit 7")...)
	got, exit := b.run(cfg)
	if want := (text{"out\n", "err\n"}); got != want || exit.Status != 7 || exit.OOMKilled || exit.Lost {
		t.Errorf("%+v, %+v", got, exit)
	}
	if logged := b.logged(cfg); logged != got {
		t.Errorf("the log has %+v", logged)
	}
	info, err := os.Stat(cfg.Log.Path)
	if err != nil || info.Size() != exit.LogEnd.Offset {
		t.Errorf("the log has %d bytes, reported are %d, %v", info.Size(), exit.LogEnd.Offset, err)
	}
}

func TestSignalStatus(t *testing.T) {
	b := newBench(t)
	cfg := b.config("/bin/sleep", "1000")
	c := b.start(cfg)
	if err := c.Signal(t.Context(), int(syscall.SIGKILL), false); err != nil {
		t.Fatal(err)
	}
	if exit := c.wait(); exit.Status != 137 || exit.Lost {
		t.Errorf("%+v", exit)
	}
	b.until("the shim does not answer any more", func() bool { return c.Signal(t.Context(), 9, false) != nil })
	if err := c.Signal(t.Context(), 9, false); !errdefs.IsNotFound(err) {
		t.Errorf("a signal to what has ended: %v", err)
	}
	if _, err := c.Attach(t.Context(), runtime.AttachOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("attach to what has ended: %v", err)
	}
}

// TestKillAnswered: the shim answers a kill also when the container ends of it before the answer is out.
func TestKillAnswered(t *testing.T) {
	b := newBench(t)
	for range 50 {
		c := b.start(b.config("/bin/sleep", "1000"))
		if err := c.Signal(t.Context(), int(syscall.SIGKILL), false); err != nil {
			t.Fatal(err)
		}
		c.wait()
	}
}

// TestLastByte: whatever the container wrote is delivered and logged before its exit is reported.
func TestLastByte(t *testing.T) {
	b := newBench(t)
	for range 20 {
		cfg := b.config(sh("head -c 300000 /dev/zero | tr '\\0' x; echo end; echo end >&2")...)
		cfg.Log.MaxSize = -1
		got, exit := b.run(cfg)
		if len(got.out) != 300004 || !strings.HasSuffix(got.out, "end\n") || got.err != "end\n" || exit.Status != 0 {
			t.Fatalf("%d bytes, %q, %+v", len(got.out), got.err, exit)
		}
		if logged := b.logged(cfg); logged != got {
			t.Fatalf("the log has %d bytes, %q", len(logged.out), logged.err)
		}
	}
}

// TestLoad sends much through several streams at once, one of which comes later.
func TestLoad(t *testing.T) {
	b := newBench(t)
	cfg := b.config(sh("read x; seq 1 200000; seq 1 1000 >&2")...)
	cfg.Stdin = runtime.StdinOnce
	cfg.Attach = &runtime.AttachOptions{Stdout: true, Stderr: true, Stdin: true}
	c := b.start(cfg)
	streams := []*runtime.Stream{c.Attached()}
	for range 3 {
		s, err := c.Attach(t.Context(), runtime.AttachOptions{Stdout: true, Stderr: true})
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	if _, err := streams[0].Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	got := make([]text, len(streams))
	for i, s := range streams {
		all.Go(func() { got[i], _ = b.read(s) })
	}
	all.Wait()
	c.wait()
	got = append(got, b.logged(cfg))
	for i, g := range got {
		if len(g.out) != 1288895 || !strings.HasSuffix(g.out, "\n200000\n") || len(g.err) != 3893 {
			t.Errorf("reader %d: %d and %d bytes", i, len(g.out), len(g.err))
		}
		if md5.Sum([]byte(g.out)) != md5.Sum([]byte(got[0].out)) {
			t.Errorf("reader %d read something else", i)
		}
	}
}

func TestStdin(t *testing.T) {
	b := newBench(t)
	cfg := b.config("/bin/cat")
	cfg.Stdin = runtime.StdinOnce
	cfg.Attach = &runtime.AttachOptions{Stdin: true, Stdout: true}
	c := b.start(cfg)
	in := strings.Repeat("a line for cat\n", 50000)
	go func() {
		if _, err := c.Attached().Write([]byte(in)); err != nil {
			t.Errorf("write: %v", err)
		}
		if err := c.Attached().CloseWrite(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	got, exit := b.read(c.Attached())
	if got.out != in || exit.Status != 0 {
		t.Errorf("%d bytes of %d came back, %+v", len(got.out), len(in), exit)
	}
}

// TestStdinStays: the end of a stream without CloseWrite is no end of stdin, nor is CloseWrite where stdin is to stay open.
func TestStdinStays(t *testing.T) {
	b := newBench(t)
	for _, stdin := range []runtime.Stdin{runtime.StdinOnce, runtime.StdinOpen} {
		cfg := b.config(sh("while read x; do echo got $x; done")...)
		cfg.Stdin = stdin
		c := b.start(cfg)
		for i := range 3 {
			s, err := c.Attach(t.Context(), runtime.AttachOptions{Stdin: true, Stdout: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(s, "%d\n", i); err != nil {
				t.Fatal(err)
			}
			if _, p, err := s.Next(); err != nil || string(p) != fmt.Sprintf("got %d\n", i) {
				t.Fatalf("%q, %v", p, err)
			}
			if stdin == runtime.StdinOpen {
				if err := s.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if st, err := c.State(t.Context()); err != nil || !st.OpenStdin || st.Exited != nil || st.Pid != c.Pid() {
			t.Errorf("%+v, %v", st, err)
		}
	}
}

func TestNoStdin(t *testing.T) {
	b := newBench(t)
	if got, exit := b.run(b.config(sh("cat; echo done")...)); got.out != "done\n" || exit.Status != 0 {
		t.Errorf("%+v, %+v", got, exit)
	}
}

func TestTerminal(t *testing.T) {
	b := newBench(t)
	cfg := b.config(sh("stty size; read x; stty size; echo \"<$x>\"; test -t 0 && test -t 1 && test -t 2 && echo tty; readlink /proc/self/fd/0")...)
	cfg.Spec.Process.Terminal = true
	cfg.Spec.Process.ConsoleSize = &specs.Box{Height: 10, Width: 20}
	cfg.Attach = &runtime.AttachOptions{Stdin: true, Stdout: true}
	c := b.start(cfg)
	s := c.Attached()
	if _, p, err := s.Next(); err != nil || string(p) != "10 20\r\n" {
		t.Fatalf("%q, %v", p, err)
	}
	if err := c.Resize(t.Context(), runtime.Size{Height: 30, Width: 40}); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil { // means nothing to a terminal
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("typed\n")); err != nil {
		t.Fatal(err)
	}
	got, exit := b.read(s)
	if got.out != "typed\r\n30 40\r\n<typed>\r\ntty\r\n/dev/pts/0\r\n" || exit.Status != 0 {
		t.Errorf("%q, %+v", got.out, exit)
	}
	if logged := b.logged(cfg); !strings.HasSuffix(logged.out, "tty\r\n/dev/pts/0\r\n") {
		t.Errorf("the log has %q", logged.out)
	}
}

// TestTerminalOutlivesItsProcesses: the terminal does not hang up while no process of the container has it open.
func TestTerminalOutlivesItsProcesses(t *testing.T) {
	b := newBench(t)
	cfg := b.config(sh("exec 3<&0 0</dev/null 1>/tmp/o 2>&1 3<&-; sleep 0.1; exec 0</dev/pts/0 1>/dev/pts/0; echo again; read x; echo $x")...)
	cfg.Spec.Process.Terminal = true
	cfg.Attach = &runtime.AttachOptions{Stdin: true, Stdout: true}
	s := b.start(cfg).Attached()
	if _, err := s.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	if got, exit := b.read(s); got.out != "hello\r\nagain\r\nhello\r\n" || exit.Status != 0 {
		t.Errorf("%q, %+v", got.out, exit)
	}
}

func TestResizeWithoutTerminal(t *testing.T) {
	b := newBench(t)
	c := b.start(b.config("/bin/sleep", "1000"))
	if err := c.Resize(t.Context(), runtime.Size{Height: 1, Width: 1}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("%v", err)
	}
}

// TestStartErrors: what cannot be started has Docker's sentence and status, and leaves nothing.
func TestStartErrors(t *testing.T) {
	b := newBench(t)
	b.file("etc/garbage", "\x01\x02", 0o755)
	for _, test := range []struct {
		args []string
		says string
		code int
	}{
		{[]string{""}, `exec: "": executable file not found in $PATH`, 127},
		{[]string{"nothing"}, `exec: "nothing": executable file not found in $PATH`, 127},
		{[]string{"/nothing"}, `exec: "/nothing": stat /nothing: no such file or directory`, 127},
		{[]string{"/etc/passwd/x"}, `exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory`, 127},
		{[]string{"/etc/passwd"}, `exec: "/etc/passwd": permission denied`, 126},
		{[]string{"/etc/garbage"}, `exec: "/etc/garbage": exec format error`, 126},
	} {
		cfg := b.config(test.args...)
		cfg.Attach = &runtime.AttachOptions{Stdout: true}
		_, err := b.launcher.Start(t.Context(), cfg)
		var failed *runtime.StartError
		if !errors.As(err, &failed) || failed.Error() != test.says || failed.ExitCode() != test.code {
			t.Errorf("%v: %v", test.args, err)
			continue
		}
		left, err := os.ReadDir(cfg.Dir)
		if err != nil || len(left) > 1 || len(left) == 1 && left[0].Name() != "shim.log" {
			t.Errorf("%v: left are %v, %v", test.args, left, err)
		}
		if log, _ := os.ReadFile(filepath.Join(cfg.Dir, "shim.log")); len(log) > 0 {
			t.Errorf("%v: the shim said %s", test.args, log)
		}
	}
	cfg := b.config("/bin/true")
	cfg.Spec.Mounts = append(cfg.Spec.Mounts, specs.Mount{Destination: "/etc/passwd", Type: "tmpfs", Source: "tmpfs"})
	const says = "mount on /etc/passwd: a directory can only be mounted on a directory, and a file on a file"
	var failed *runtime.StartError
	if _, err := b.launcher.Start(t.Context(), cfg); !errors.As(err, &failed) || failed.Error() != says || failed.ExitCode() != 125 {
		t.Errorf("a file system on a file: %v", err)
	}
}

func TestExec(t *testing.T) {
	b := newBench(t)
	c := b.start(b.config("/bin/sleep", "1000"))
	process := func(args ...string) *specs.Process {
		return &specs.Process{Args: args, Env: []string{"PATH=/bin", "A=b"}, Cwd: "/", Capabilities: c.cfg.Spec.Process.Capabilities}
	}
	p, err := c.Exec(t.Context(), runtime.ExecConfig{Process: process(sh("echo $A; echo err >&2; exit 3")...), Attach: runtime.AttachOptions{Stdout: true, Stderr: true}})
	if err != nil {
		t.Fatal(err)
	}
	if got, exit := b.read(p.Stream()); got != (text{"b\n", "err\n"}) || exit.Status != 3 {
		t.Errorf("%+v, %+v", got, exit)
	}
	if exit, err := p.Wait(t.Context()); err != nil || exit.Status != 3 {
		t.Errorf("wait: %+v, %v", exit, err)
	}

	for _, test := range []struct {
		args []string
		says string
		code int
	}{
		{[]string{"nothing"}, `exec: "nothing": executable file not found in $PATH`, 127},
		{[]string{""}, `exec: "": executable file not found in $PATH`, 127},
		{[]string{"/etc/passwd"}, `exec: "/etc/passwd": permission denied`, 126},
	} {
		_, err := c.Exec(t.Context(), runtime.ExecConfig{Process: process(test.args...)})
		var failed *runtime.StartError
		if !errors.As(err, &failed) || failed.Error() != test.says || failed.ExitCode() != test.code {
			t.Errorf("%v: %v", test.args, err)
		}
	}
	if _, err := c.Exec(t.Context(), runtime.ExecConfig{Process: process()}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no command: %v", err)
	}
}

func TestExecTerminal(t *testing.T) {
	b := newBench(t)
	c := b.start(b.config("/bin/sleep", "1000"))
	p, err := c.Exec(t.Context(), runtime.ExecConfig{
		Process: &specs.Process{Args: sh("read x; stty size; exit 4"), Env: []string{"PATH=/bin"}, Cwd: "/", Terminal: true, ConsoleSize: &specs.Box{Height: 10, Width: 20}},
		Attach:  runtime.AttachOptions{Stdin: true, Stdout: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Resize(t.Context(), runtime.Size{Height: 5, Width: 6}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Stream().Write([]byte("x\n")); err != nil {
		t.Fatal(err)
	}
	if got, exit := b.read(p.Stream()); got.out != "x\r\n5 6\r\n" || exit.Status != 4 {
		t.Errorf("%q, %+v", got.out, exit)
	}
}

func TestExecMany(t *testing.T) {
	b := newBench(t)
	c := b.start(b.config("/bin/sleep", "1000"))
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			p, err := c.Exec(t.Context(), runtime.ExecConfig{
				Process: &specs.Process{Args: sh(fmt.Sprintf("cat; exit %d", i)), Env: []string{"PATH=/bin"}, Cwd: "/"},
				Attach:  runtime.AttachOptions{Stdin: true, Stdout: true},
			})
			if err != nil {
				t.Errorf("exec %d: %v", i, err)
				return
			}
			in := strings.Repeat(fmt.Sprintf("exec %d\n", i), 5000)
			go func() {
				_, _ = p.Stream().Write([]byte(in))
				_ = p.Stream().CloseWrite()
			}()
			if got, exit := b.read(p.Stream()); got.out != in || exit.Status != i {
				t.Errorf("exec %d: %d bytes, %+v", i, len(got.out), exit)
			}
		})
	}
	all.Wait()
	b.until("no exec is counted any more", func() bool {
		st, err := c.State(t.Context())
		return err == nil && st.Execs == 0
	})
}

// TestExecLeavesSomething: an exec whose child holds its output open ends with the process, and the child lives on.
func TestExecLeavesSomething(t *testing.T) {
	b := newBench(t)
	cfg := b.config("/bin/sleep", "1000")
	c := b.start(cfg)
	p, err := c.Exec(t.Context(), runtime.ExecConfig{
		Process: &specs.Process{Args: sh("(while test ! -e /tmp/go; do sleep 0.01; done; echo late && echo alive > /tmp/alive) & echo soon"), Env: []string{"PATH=/bin"}, Cwd: "/"},
		Attach:  runtime.AttachOptions{Stdout: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, exit := b.read(p.Stream()); got.out != "soon\n" || exit.Status != 0 {
		t.Errorf("%q, %+v", got.out, exit)
	}
	b.file("tmp/go", "", 0o644)
	b.until("the child has written to the output that nobody reads", func() bool {
		_, err := os.Stat(filepath.Join(b.tree, "tmp/alive"))
		return err == nil
	})
}

func TestExecKillAndDetach(t *testing.T) {
	b := newBench(t)
	c := b.start(b.config("/bin/sleep", "1000"))
	start := func(end bool) *runtime.ExecProcess {
		p, err := c.Exec(t.Context(), runtime.ExecConfig{
			Process: &specs.Process{Args: []string{"sleep", "1000"}, Env: []string{"PATH=/bin"}, Cwd: "/"}, EndWithEngine: end,
		})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := start(false)
	if err := p.Stream().Close(); err != nil { // detached; its exit is still told
		t.Fatal(err)
	}
	if err := p.Kill(t.Context(), int(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(t.Context()); err != nil || exit.Status != 143 {
		t.Errorf("%+v, %v", exit, err)
	}
	p = start(true)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	b.until("a process that ends with the engine has ended", func() bool { return gone(p.Pid()) })
	p = start(false)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if gone(p.Pid()) {
		t.Error("a process that does not end with the engine has ended")
	}
	if err := c.Signal(t.Context(), 9, false); err != nil {
		t.Fatal(err)
	}
	c.wait()
	b.until("everything of the container is gone", func() bool { return gone(p.Pid()) })
}

func TestRootfs(t *testing.T) {
	b := newBench(t)
	c := b.start(b.config("/bin/sleep", "1000"))
	root, err := c.Rootfs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	// Mounts of the container are seen through it.
	if _, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d/proc/1", root.Fd())); err != nil {
		t.Error(err)
	}
}

// TestSlowReader: a reader that does not read holds the container up, unless it asked to be dropped; the log has
// everything in any case.
func TestSlowReader(t *testing.T) {
	b := newBench(t)
	const size = 4 << 20
	cfg := b.config(sh(fmt.Sprintf("read x; head -c %d /dev/zero | tr '\\0' x; echo", size))...)
	cfg.Stdin, cfg.Log.MaxSize = runtime.StdinOnce, -1
	cfg.Attach = &runtime.AttachOptions{Stdin: true}
	c := b.start(cfg)
	slow, err := c.Attach(t.Context(), runtime.AttachOptions{Stdout: true, DropWhenSlow: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Attached().Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if exit := c.wait(); exit.Status != 0 {
		t.Errorf("%+v", exit)
	}
	if logged := b.logged(cfg); len(logged.out) != size+1 {
		t.Errorf("the log has %d bytes", len(logged.out))
	}
	n := 0
	for {
		_, p, err := slow.Next()
		if errors.Is(err, runtime.ErrSlow) {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		n += len(p)
	}
	if n == 0 || n >= size {
		t.Errorf("the slow reader has read %d bytes", n)
	}
	if err := slow.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Attached().Close(); err != nil {
		t.Error(err)
	}
}

// TestBackPressure: as in Docker, output waits for a reader that is there; when it goes, it does not wait any more.
func TestBackPressure(t *testing.T) {
	b := newBench(t)
	const size = 8 << 20
	cfg := b.config(sh(fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo", size))...)
	cfg.Log.MaxSize = -1
	cfg.Attach = &runtime.AttachOptions{Stdout: true}
	c := b.start(cfg)
	if _, _, err := c.Attached().Next(); err != nil {
		t.Fatal(err)
	}
	b.until("the log stands still", func() bool {
		before, _ := os.Stat(cfg.Log.Path)
		// What is in flight is bounded; a log that has stopped growing below the whole shows that the container waits.
		return before != nil && before.Size() > 256<<10
	})
	select {
	case <-c.Done():
		t.Error("the container did not wait for its reader")
	default:
	}
	if err := c.Attached().Close(); err != nil {
		t.Fatal(err)
	}
	if exit := c.wait(); exit.Status != 0 {
		t.Errorf("%+v", exit)
	}
	if logged := b.logged(cfg); len(logged.out) != size+1 {
		t.Errorf("the log has %d bytes", len(logged.out))
	}
}

// TestStuckReaderAtTheEnd: a reader that never reads does not keep the exit from being reported, and loses nothing.
func TestStuckReaderAtTheEnd(t *testing.T) {
	b := newBench(t)
	const size = 100 << 10
	cfg := b.config(sh(fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; exit 9", size))...)
	cfg.Attach = &runtime.AttachOptions{Stdout: true}
	c := b.start(cfg)
	if exit := c.wait(); exit.Status != 9 {
		t.Errorf("%+v", exit)
	}
	if got, exit := b.read(c.Attached()); len(got.out) != size || exit.Status != 9 {
		t.Errorf("%d bytes, %+v", len(got.out), exit)
	}
}

func TestStuckWriterAtTheEnd(t *testing.T) {
	b := newBench(t)
	cfg := b.config("/bin/yes")
	cfg.Attach = &runtime.AttachOptions{Stdout: true}
	c := b.start(cfg)
	if _, _, err := c.Attached().Next(); err != nil {
		t.Fatal(err)
	}
	if err := c.Signal(t.Context(), 9, false); err != nil {
		t.Fatal(err)
	}
	if exit := c.wait(); exit.Status != 137 {
		t.Errorf("%+v", exit)
	}
	if _, exit := b.read(c.Attached()); exit.Status != 137 {
		t.Errorf("%+v", exit)
	}
}

// TestShimKilled: a container that lost its shim is killed by its cgroup and recorded as 137, seen by the engine that
// is there and by one that comes later.
func TestShimKilled(t *testing.T) {
	b := newBench(t)
	for _, later := range []bool{false, true} {
		cfg := b.config(sh("sleep 1000 & sleep 1000")...)
		cfg.Attach = &runtime.AttachOptions{Stdout: true}
		c := b.start(cfg)
		if later {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := syscall.Kill(c.shimPid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		var exit runtime.Exit
		if later {
			b.until("the shim is gone", func() bool {
				f, err := protocol.Dial(cfg.Dir)
				if err == nil {
					f.Close()
				}
				return err != nil
			})
			_, err := b.launcher.Reconnect(t.Context(), cfg.ID, cfg.Dir, "")
			var ended *runtime.EndedError
			if !errors.As(err, &ended) || ended.Exit == nil || !errdefs.IsNotFound(err) {
				t.Fatalf("reconnect: %v", err)
			}
			exit = *ended.Exit
		} else {
			exit = c.wait()
		}
		if exit.Status != 137 || !exit.Lost {
			t.Errorf("%+v", exit)
		}
		// A process leaves its cgroup a moment before it is gone.
		b.until("the container is gone", func() bool { return gone(c.Pid()) })
		if r, err := protocol.ReadRecord(cfg.Dir); err != nil || r.Exit == nil || r.Exit.Status != 137 || !r.Exit.Lost {
			t.Errorf("record %+v, %v", r, err)
		}
		if _, _, err := c.Attached().Next(); !errors.Is(err, runtime.ErrLost) {
			t.Errorf("the stream says %v", err)
		}
		if err := c.Attached().Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestReconnectToNothing(t *testing.T) {
	b := newBench(t)
	_, err := b.launcher.Reconnect(t.Context(), "never", t.TempDir(), "")
	var ended *runtime.EndedError
	if !errors.As(err, &ended) || ended.Exit != nil {
		t.Errorf("%v", err)
	}
}

func TestDestroy(t *testing.T) {
	b := newBench(t)
	cfg := b.config(sh("sleep 1000 & sleep 1000")...)
	c := b.start(cfg)
	for range 3 {
		b.destroy(cfg)
	}
	b.until("the container is gone", func() bool { return gone(c.Pid()) })
	if exit := c.wait(); exit.Status != 137 {
		t.Errorf("%+v", exit)
	}
	left, err := os.ReadDir(cfg.Dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestCancelledStart gives up at different moments; nothing may be left.
func TestCancelledStart(t *testing.T) {
	b := newBench(t)
	for i := range 15 {
		cfg := b.config("/bin/sleep", "1000")
		ctx, cancel := cancelAfter(t, i)
		s, err := b.launcher.Start(ctx, cfg)
		cancel()
		if err == nil {
			b.destroy(cfg)
			_ = s.Close()
			continue
		}
		if !errors.Is(err, errGivenUp) {
			t.Errorf("%v", err)
		}
		left, err := os.ReadDir(cfg.Dir)
		if err != nil || len(left) > 1 {
			t.Errorf("left are %v, %v", left, err)
		}
	}
}
