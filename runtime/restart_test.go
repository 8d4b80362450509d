package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-engine/berth/runtime"
)

var errGivenUp = errors.New("given up")

// cancelAfter returns a context that is cancelled i×200 µs from now: at another point of a start each time.
func cancelAfter(t *testing.T, i int) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(t.Context())
	timer := time.AfterFunc(time.Duration(i)*200*time.Microsecond, func() { cancel(errGivenUp) })
	return ctx, func() { timer.Stop(); cancel(nil) }
}

// otherEngine is an engine that starts the container in dir (its configuration is made as the test makes it), says
// so, and waits to be killed.
func otherEngine(dir string) {
	b := &bench{t: &noTest{}, dir: dir, tree: filepath.Join(dir, "root"), parent: os.Getenv("BERTH_TEST_CGROUP")}
	for dir := range strings.FieldsSeq(os.Getenv("BERTH_TEST_UNIT")) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			panic(err)
		}
	}
	exe, err := os.Executable()
	if err == nil {
		b.launcher, err = runtime.New(context.Background(), runtime.Options{Program: exe, ExecRoot: dir, CgroupParent: b.parent})
	}
	if err != nil {
		panic(err)
	}
	id := os.Getenv("BERTH_TEST_ID")
	cfg := runtime.Config{ID: id, Dir: filepath.Join(dir, "c", id), Root: b.root(), Log: runtime.Log{Path: filepath.Join(dir, id+".log"), MaxSize: -1}, Stdin: runtime.StdinOnce}
	cfg.Spec = b.spec(id, sh(os.Getenv("BERTH_TEST_COMMAND")))
	cfg.Attach = &runtime.AttachOptions{Stdin: true, Stdout: true}
	s, err := b.launcher.Start(context.Background(), cfg)
	if err != nil {
		panic(err)
	}
	if _, _, err := s.Attached().Next(); err != nil {
		panic(err)
	}
	fmt.Println("started")
	select {}
}

// noTest is the testing.TB of a process that is no test.
type noTest struct{ testing.TB }

func (noTest) Helper()        {}
func (noTest) Cleanup(func()) {}
func (noTest) Fatal(v ...any) { panic(fmt.Sprint(v...)) }

// engine runs another engine until it has started the container, and kills it.
func (b *bench) engine(cfg runtime.Config, command string) {
	b.t.Helper()
	b.engineIn(nil, cfg, command)
}

// engineIn does so in these cgroups.
func (b *bench) engineIn(unit []string, cfg runtime.Config, command string) {
	b.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "BERTH_TEST_ENGINE="+b.dir, "BERTH_TEST_ID="+cfg.ID, "BERTH_TEST_COMMAND="+command, "BERTH_TEST_CGROUP="+b.parent, "BERTH_TEST_UNIT="+strings.Join(unit, " "))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { b.destroy(cfg) })
	var line string
	_, err = fmt.Fscanln(out, &line)
	killed := cmd.Process.Kill()
	_ = cmd.Wait() // killed
	if err := errors.Join(err, killed); err != nil || line != "started" {
		b.t.Fatalf("the other engine said %q, %v", line, err)
	}
}

// TestEngineKilled: the engine is killed in the middle of output that it reads; the container goes on, and another
// engine finds it, its log whole.
func TestEngineKilled(t *testing.T) {
	b := newBench(t)
	cfg := b.config()
	b.engine(cfg, "seq 1 300000; read x; echo got $x; exit 5")
	s, err := b.launcher.Reconnect(t.Context(), cfg.ID, cfg.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	c := &container{s, b, cfg}
	if st, err := c.State(t.Context()); err != nil || st.Pid != c.Pid() || st.Pid == 0 || !st.Started.Equal(c.Started()) || !st.OpenStdin {
		t.Errorf("%+v, %v", st, err)
	}
	if c.Cgroup() != b.parent+"/"+cfg.ID {
		t.Errorf("cgroup %q", c.Cgroup())
	}
	in, err := c.Attach(t.Context(), runtime.AttachOptions{Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("word\n")); err != nil {
		t.Fatal(err)
	}
	if got, exit := b.read(in); !strings.HasSuffix(got.out, "got word\n") || exit.Status != 5 {
		t.Errorf("%q, %+v", tail(got.out), exit)
	}
	if exit := c.wait(); exit.Status != 5 || exit.Lost {
		t.Errorf("%+v", exit)
	}
	logged := b.logged(cfg)
	if len(logged.out) != 1988895+9 || !strings.HasSuffix(logged.out, "\n300000\ngot word\n") {
		t.Errorf("the log has %d bytes and ends with %q", len(logged.out), tail(logged.out))
	}
}

// TestEndsWithoutEngine: a container that ended while no engine was there has its status in the record.
func TestEndsWithoutEngine(t *testing.T) {
	b := newBench(t)
	cfg := b.config()
	b.engine(cfg, "echo a; while test ! -e /tmp/go; do sleep 0.01; done; echo b; exit 6")
	s, err := b.launcher.Reconnect(t.Context(), cfg.ID, cfg.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // and this engine is gone, too
		t.Fatal(err)
	}
	b.file("tmp/go", "", 0o644)
	var ended *runtime.EndedError
	b.until("the container has ended", func() bool {
		s, err := b.launcher.Reconnect(t.Context(), cfg.ID, cfg.Dir, "")
		if err == nil {
			_ = s.Close()
			return false
		}
		if !errors.As(err, &ended) {
			t.Fatal(err)
		}
		return true
	})
	if ended.Exit == nil || ended.Exit.Status != 6 || ended.Exit.Lost {
		t.Errorf("%+v", ended.Exit)
	}
	if logged := b.logged(cfg); logged.out != "a\nb\n" {
		t.Errorf("the log has %q", logged.out)
	}
}

// TestStartAgainAtOnce: who is told that a container has ended can start it again, in the same directory and cgroup,
// however long the kernel takes to let the cgroup go; and the shim before takes nothing of the new one's away.
func TestStartAgainAtOnce(t *testing.T) {
	b := newBench(t)
	cfg := b.config("/bin/sleep", "1000")
	first := b.start(cfg)
	before := first.shimPid()
	release := holdGroup(b, cfg.ID)
	if err := first.Signal(t.Context(), 9, false); err != nil {
		t.Fatal(err)
	}
	first.wait()
	cfg.Root = b.root()
	second := b.start(cfg)
	b.until("the first shim is gone", func() bool { return gone(before) })
	if s, err := second.State(t.Context()); err != nil || s.Pid != second.Pid() {
		t.Errorf("the second container: %+v, %v", s, err)
	}
	release()
}

// holdGroup keeps a container's cgroup from being removed, with a process that is in it where containers have none;
// with version 2, where there is no such place, it does nothing.
func holdGroup(b *bench, id string) (release func()) {
	b.t.Helper()
	if _, err := os.Stat("/sys/fs/cgroup/blkio/tasks"); err != nil {
		return func() {}
	}
	parent := "/sys/fs/cgroup/blkio" + b.parent
	dir := filepath.Join(parent, id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(busybox, "sleep", "1000")
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	release = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		b.until("the cgroup is gone", func() bool {
			err := errors.Join(removed(dir), removed(parent))
			return err == nil
		})
	})
	b.t.Cleanup(release)
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(fmt.Sprint(cmd.Process.Pid)), 0); err != nil {
		b.t.Fatal(err)
	}
	return release
}

// removed removes an empty directory.
func removed(dir string) error {
	if err := os.Remove(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
