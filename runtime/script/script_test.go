package script

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func newScript(t *testing.T) *Script {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func start(t *testing.T, s *Script, o StartOptions) *Child {
	t.Helper()
	c, err := s.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.PidFD.Close() })
	return c
}

func exitStatus(t *testing.T, c *Child) int {
	t.Helper()
	if err := c.Started(); err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(c.Pid, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return ws.ExitStatus()
	}
}

// program adds the execve of a shell command.
func program(s *Script, command string) {
	s.Do("execute", unix.SYS_EXECVE, "/bin/sh", s.Strings([]string{"sh", "-c", command}), s.Strings([]string{"PATH=/bin:/usr/bin"})).On("/bin/sh").Exec()
}

func TestExecve(t *testing.T) {
	for _, share := range []bool{false, true} {
		s := newScript(t)
		program(s, "exit 7")
		if got := exitStatus(t, start(t, s, StartOptions{Share: share})); got != 7 {
			t.Errorf("share %v: exit status %d, want 7", share, got)
		}
	}
}

func TestFailureHasStepObjectErrno(t *testing.T) {
	for _, share := range []bool{false, true} {
		s := newScript(t)
		s.Do("open", unix.SYS_OPENAT, unix.AT_FDCWD, "/nonexistent/file", unix.O_RDONLY, 0).On("/nonexistent/file")
		program(s, "exit 0")
		err := start(t, s, StartOptions{Share: share}).Started()
		var f *Failure
		if !errors.As(err, &f) {
			t.Fatalf("error %v, want a Failure", err)
		}
		if f.Step != "open" || f.Object != "/nonexistent/file" || f.Errno != unix.ENOENT || f.Exec || f.Status() != 125 {
			t.Errorf("failure %+v", f)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Error("the failure does not unwrap to its errno")
		}
	}
}

func TestExecFailureStatus(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/data", []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/garbage", []byte("\x01\x02no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path   string
		errno  syscall.Errno
		status int
	}{{dir + "/none", unix.ENOENT, 127}, {dir + "/data", unix.EACCES, 126}, {dir + "/garbage", unix.ENOEXEC, 126}, {dir, unix.EACCES, 126}} {
		s := newScript(t)
		s.Do("execute", unix.SYS_EXECVE, c.path, s.Strings([]string{c.path}), s.Strings(nil)).On(c.path).Exec()
		err := start(t, s, StartOptions{}).Started()
		var f *Failure
		if !errors.As(err, &f) || f.Errno != c.errno || !f.Exec || f.Status() != c.status {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}

// A script that comes to its end without execve must not look like success, and neither must a child that
// is killed on its way.
func TestEndWithoutExecve(t *testing.T) {
	s := newScript(t)
	s.Do("nothing", unix.SYS_GETPID)
	if err := start(t, s, StartOptions{}).Started(); err == nil {
		t.Error("a script without execve succeeded")
	}
	s = newScript(t)
	pid := s.Reg("pid")
	s.Do("ask for the pid", unix.SYS_GETPID).To(pid)
	s.Do("kill oneself", unix.SYS_KILL, pid, int(unix.SIGKILL))
	program(s, "exit 0")
	var f *Failure
	if err := start(t, s, StartOptions{}).Started(); !errors.As(err, &f) || f.Signal != unix.SIGKILL || f.Step != "kill oneself" {
		t.Errorf("a killed child: %v", err)
	}
}

func TestExpectedErrnosAndLabels(t *testing.T) {
	s := newScript(t)
	r := s.Reg("result")
	missing, bad, good := s.Label(), s.Label(), s.Label()
	s.Do("open", unix.SYS_OPENAT, unix.AT_FDCWD, "/nonexistent", unix.O_RDONLY, 0).To(r).May(unix.ENOENT, unix.ENOTDIR).Else(missing).Then(bad)
	s.Mark(bad)
	s.Fail("unreachable", unix.EPROTO)
	s.Mark(missing)
	minus := int64(unix.ENOENT)
	s.Expect("the errno is in the register", r, All, Equal, uint64(-minus), unix.EDOM)
	s.Compute(r, r, Add, uint64(minus)+5)
	s.Expect("5", r, All, Equal, 5, unix.EDOM)
	s.Expect("no", r, All, Less, 5, unix.EDOM).Else(good)
	s.Fail("unreachable", unix.EPROTO)
	s.Mark(good)
	program(s, "exit 3")
	if got := exitStatus(t, start(t, s, StartOptions{})); got != 3 {
		t.Errorf("exit status %d", got)
	}
}

func TestAgainEndsInFailure(t *testing.T) {
	r, w, err := os.Pipe() // Go's pipes do not block
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	s := newScript(t)
	s.Do("read", unix.SYS_READ, s.File("pipe", r), s.Room("byte", 1), 1)
	program(s, "exit 0")
	var f *Failure
	if err := start(t, s, StartOptions{}).Started(); !errors.As(err, &f) || f.Errno != unix.EAGAIN {
		t.Errorf("error %v, want EAGAIN", err)
	}
}

func TestMeetingAndDescriptors(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := newScript(t)
	s.Meet("first")
	in := s.Wait("second")
	c := start(t, s, StartOptions{})
	for range 2 {
		if err := c.Meet(); err != nil {
			t.Fatal(err)
		}
		if c.met == 1 {
			if err := c.Go(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The rest of the script is written while the child waits.
	out, unused := s.Reg("out"), s.Reg("unused")
	s.Take(in, unused, out)
	s.Do("write", unix.SYS_DUP3, out, 1, 0)
	program(s, "echo hello")
	if err := c.Go(r, w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if got := exitStatus(t, c); got != 0 {
		t.Fatalf("exit status %d", got)
	}
	b, err := io.ReadAll(r)
	if string(b) != "hello\n" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestMeetingWithTooFewDescriptorsFails(t *testing.T) {
	s := newScript(t)
	s.Receive("files", s.Reg("a"), s.Reg("b"))
	program(s, "exit 0")
	c := start(t, s, StartOptions{})
	if err := c.Meet(); err != nil {
		t.Fatal(err)
	}
	if err := c.Go(os.Stdin); err != nil {
		t.Fatal(err)
	}
	var f *Failure
	if err := c.Started(); !errors.As(err, &f) || f.Errno != unix.EPROTO || f.Object != "files" {
		t.Errorf("error %v", err)
	}
}

// The child of a parent that goes away while it waits ends.
func TestMeetingWithoutParent(t *testing.T) {
	s := newScript(t)
	s.Meet("maps")
	program(s, "exit 0")
	c := start(t, s, StartOptions{})
	if err := c.Meet(); err != nil {
		t.Fatal(err)
	}
	unix.Shutdown(c.conn, unix.SHUT_RDWR)
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.Pid, &ws, 0, nil); err != nil || ws.ExitStatus() != 125 {
		t.Errorf("status %v, %v", ws, err)
	}
	if h := s.arena.head(); h.failed != 1 || syscall.Errno(h.errno) != unix.ECANCELED {
		t.Errorf("recorded %+v", h)
	}
	c.close()
}

func TestHandOver(t *testing.T) {
	s := newScript(t)
	s.HandOver("fork", 0)
	s.Meet("as the second")
	program(s, "exit 4")
	c := start(t, s, StartOptions{})
	first := c.Pid
	if err := c.Meet(); err != nil {
		t.Fatal(err)
	}
	if c.Pid == first {
		t.Error("the pid is still the first process's")
	}
	if err := c.Go(); err != nil {
		t.Fatal(err)
	}
	if got := exitStatus(t, c); got != 4 {
		t.Errorf("exit status %d", got)
	}
	if err := unix.Kill(first, 0); err != unix.ESRCH {
		t.Errorf("the first process is still there: %v", err)
	}
}

// A process that has handed over and its successor write into the same memory; only the failing one counts.
func TestFailureAfterHandOver(t *testing.T) {
	for range 50 {
		s := newScript(t)
		s.HandOver("fork", 0)
		s.Do("open", unix.SYS_OPENAT, unix.AT_FDCWD, "/nonexistent", 0, 0).On("/nonexistent")
		program(s, "exit 0")
		var f *Failure
		if err := start(t, s, StartOptions{}).Started(); !errors.As(err, &f) || f.Object != "/nonexistent" {
			t.Fatalf("error %v", err)
		}
	}
}

func TestAside(t *testing.T) {
	s := newScript(t)
	r, st := s.Reg("child"), s.Reg("status")
	other := s.Label()
	s.Aside("fork", r, other)
	program(s, "exit 6")
	s.Mark(other)
	s.Do("let go", unix.SYS_CLOSE, Conn)
	ws := s.Room("wait status", 4)
	s.Do("wait", unix.SYS_WAIT4, r, ws, 0, 0)
	s.Load(st, ws, 0, 4)
	s.Compute(st, st, ShiftRight, 8)
	s.Compute(st, st, Add, 1)
	s.Do("end", unix.SYS_EXIT_GROUP, st)
	if got := exitStatus(t, start(t, s, StartOptions{})); got != 7 {
		t.Errorf("exit status %d, want the program's plus one", got)
	}
}

func TestAbandon(t *testing.T) {
	for _, over := range []bool{false, true} {
		s := newScript(t)
		if over {
			s.HandOver("fork", 0)
		}
		s.Meet("for ever")
		c := start(t, s, StartOptions{})
		if err := c.Meet(); err != nil {
			t.Fatal(err)
		}
		c.Abandon()
		if err := unix.Kill(c.Pid, 0); err != unix.ESRCH {
			t.Errorf("it is still there: %v", err)
		}
	}
}

// A child that let go of its parent fails, and a process that has only the file knows why.
func TestReadFailure(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "script")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := NewIn(f)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Meet("created")
	s.Do("execute", unix.SYS_EXECVE, "/nonexistent", s.Strings([]string{"x"}), s.Strings(nil)).On("/nonexistent").Exec()
	c := start(t, s, StartOptions{})
	if err := c.Meet(); err != nil {
		t.Fatal(err)
	}
	if f, err := ReadFailure(f); f != nil || err != nil {
		t.Errorf("before: %v, %v", f, err)
	}
	if err := c.Go(); err != nil {
		t.Fatal(err)
	}
	c.reap(c.Pid)
	c.Release()
	got, err := ReadFailure(f)
	if err != nil || got == nil || got.Status() != 127 || got.Error() != "execute /nonexistent: no such file or directory" {
		t.Errorf("after: %v, %v", got, err)
	}
}

// Nothing of ours is open in the program but 0, 1, 2.
func TestDescriptorsAreClosed(t *testing.T) {
	leak, err := unix.Open("/dev/null", unix.O_RDONLY, 0) // not close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := newScript(t)
	s.Do("stdout", unix.SYS_DUP3, s.File("out", w), 1, 0)
	program(s, "i=0; while [ $i -lt 300 ]; do [ -e /proc/$$/fd/$i ] && echo $i; i=$((i+1)); done; exit 0")
	c := start(t, s, StartOptions{})
	w.Close()
	exitStatus(t, c)
	b, _ := io.ReadAll(r)
	if string(b) != "0\n1\n2\n" {
		t.Errorf("descriptors %q, want 0 1 2", b)
	}
}

func TestTooLarge(t *testing.T) {
	s := newScript(t)
	s.Strings([]string{strings.Repeat("x", arenaSize)})
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "shorten the environment") {
		t.Errorf("error %v", err)
	}
	s = newScript(t)
	for range maxSteps {
		s.Do("nothing", unix.SYS_GETPID)
	}
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "steps") {
		t.Errorf("error %v", err)
	}
}

func TestLabelThatIsNowhere(t *testing.T) {
	s := newScript(t)
	s.Jump(s.Label())
	if _, err := s.Start(StartOptions{}); err == nil {
		t.Error("started")
	}
}

// A filter that denies every write and every sendmsg can't make a failed execve look like success.
func TestFailureUnderFilterThatDeniesWriting(t *testing.T) {
	s := newScript(t)
	s.Do("no new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	// ld nr; write, exit_group → EPERM; all else allowed
	filter := bpf(
		[4]int{0x20, 0, 0, 0},
		[4]int{0x15, 3, 0, unix.SYS_WRITE},
		[4]int{0x15, 2, 0, unix.SYS_EXIT_GROUP},
		[4]int{0x15, 1, 0, unix.SYS_SENDMSG},
		[4]int{0x06, 0, 0, 0x7fff0000},
		[4]int{0x06, 0, 0, 0x00050001},
	)
	prog := s.Room("filter", 16)
	b := s.Bytes("instructions", filter)
	s.arena.putWord(prog.off, uintptr(len(filter)/8))
	s.PutAddress(prog, 8, b)
	s.Do("filter", unix.SYS_SECCOMP, 1, 0, prog)
	s.Do("execute", unix.SYS_EXECVE, "/nonexistent", s.Strings([]string{"x"}), s.Strings(nil)).On("/nonexistent").Exec()
	var f *Failure
	if err := start(t, s, StartOptions{}).Started(); !errors.As(err, &f) || f.Status() != 127 {
		t.Errorf("error %v, want not found", err)
	}
}

func bpf(ins ...[4]int) (b []byte) {
	for _, i := range ins {
		b = append(b, byte(i[0]), byte(i[0]>>8), byte(i[1]), byte(i[2]), byte(i[3]), byte(i[3]>>8), byte(i[3]>>16), byte(i[3]>>24))
	}
	return b
}

func TestString(t *testing.T) {
	s := newScript(t)
	r := s.Reg("root")
	l := s.Label()
	s.Do("open", unix.SYS_OPENAT, unix.AT_FDCWD, "/x", unix.O_PATH|unix.O_CLOEXEC, 0).On("/x").To(r).May(unix.ENOENT).Else(l)
	s.Expect("a directory", r, 0o170000, Equal, 0o040000, unix.ENOTDIR)
	s.Mark(l)
	s.Do("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	program(s, "true")
	want := `   0  open /x: openat(CWD, "/x", PATH|CLOEXEC, 00) → <root>, may ENOENT, else 2
   1  a directory: <root>&0xf000 = 0x4000 or ENOTDIR
   2  unshare: unshare(NEWCGROUP)
   3  execute /bin/sh: execve("/bin/sh", {"sh", "-c", "true"}, {"PATH=/bin:/usr/bin"})
`
	if got := s.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
