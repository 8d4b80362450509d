package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-engine/berth/internal/testroot"
	"github.com/berth-engine/berth/runtime/cgroup"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const asProgram = "BT_OCI"

// TestMain lets the test's program be the command line, also when it executes itself.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Main(context.Background(), "test", os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// bench is a place for containers: a state directory, a bundle, and names that nobody else has.
type bench struct {
	t            *testing.T
	root, bundle string
	spec         *specs.Spec
	id           string
}

func newBench(t *testing.T, args ...string) *bench {
	t.Helper()
	testroot.Require(t)
	program, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs the static busybox (Debian: busybox-static)")
	}
	b := &bench{t: t, root: testroot.Dir(t) + "/state", bundle: testroot.Dir(t), spec: example(), id: testroot.Name(t)}
	b.spec.Process.Terminal, b.spec.Process.Args = false, args
	b.spec.Root.Readonly = false
	b.spec.Linux.CgroupsPath = "/" + b.id
	for _, d := range []string{"bin", "etc", "tmp", "proc", "dev", "sys"} {
		b.must(os.MkdirAll(b.bundle+"/rootfs/"+d, 0o755))
	}
	content, err := os.ReadFile(program)
	b.must(err)
	b.must(os.WriteFile(b.bundle+"/rootfs/bin/busybox", content, 0o755))
	for _, l := range strings.Fields("sh cat ls echo sleep id ps kill hostname true false touch dd test od tty stty head") {
		b.must(os.Symlink("busybox", b.bundle+"/rootfs/bin/"+l))
	}
	t.Cleanup(b.leftovers)
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// leftovers removes what the test left, and fails where that is anything but its own container's.
func (b *bench) leftovers() {
	b.cli("delete", "--force", b.id)
	if l, err := os.ReadDir(b.root); err == nil && len(l) > 0 {
		b.t.Errorf("left in the state directory: %v", l)
	}
	if system, err := cgroup.Find(); err == nil {
		g, err := system.Group("/" + b.id)
		b.must(err)
		if s, err := g.Procs(); len(s) > 0 {
			b.t.Errorf("left in the cgroup: %v, %v", s, err)
		}
		if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + b.id); len(left) > 0 {
			b.t.Errorf("left: %v", left)
		}
	}
}

// write writes the bundle's configuration.
func (b *bench) write() {
	b.t.Helper()
	content, err := json.Marshal(b.spec)
	b.must(err)
	b.must(os.WriteFile(b.bundle+"/config.json", content, 0o644))
}

// result is what a call of the command line gave.
type result struct {
	status   int
	out, err string
}

func (b *bench) command(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{"--root", b.root}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

func (b *bench) cli(args ...string) result {
	b.t.Helper()
	return b.finish(b.command(args...))
}

// finish runs cmd with files for its output: a pipe would be kept open by a container that goes on.
func (b *bench) finish(cmd *exec.Cmd) result {
	b.t.Helper()
	dir := b.t.TempDir()
	out, err := os.Create(dir + "/out")
	b.must(err)
	defer out.Close()
	said, err := os.Create(dir + "/err")
	b.must(err)
	defer said.Close()
	cmd.Stdout, cmd.Stderr = out, said
	err = cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		b.t.Fatal(err)
	}
	r := result{status: cmd.ProcessState.ExitCode()}
	for to, name := range map[*string]string{&r.out: "/out", &r.err: "/err"} {
		content, err := os.ReadFile(dir + name)
		b.must(err)
		*to = string(content)
	}
	return r
}

func (b *bench) ok(r result) string {
	b.t.Helper()
	if r.status != 0 {
		b.t.Fatalf("status %d: %s", r.status, r.err)
	}
	return r.out
}

// fails checks status and sentence.
func (b *bench) fails(r result, status int, say string) {
	b.t.Helper()
	if r.status != status || !strings.Contains(r.err, say) {
		b.t.Errorf("status %d, %q; want %d and something about %q", r.status, r.err, status, say)
	}
}

func (b *bench) state() (s specs.State) {
	b.t.Helper()
	b.must(json.Unmarshal([]byte(b.ok(b.cli("state", b.id))), &s))
	return s
}

func (b *bench) await(what string, f func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: not within a minute", what)
		}
	}
}

func TestLifecycle(t *testing.T) {
	b := newBench(t, "sh", "-c", "echo ran >/tmp/ran; exec sleep 1000")
	b.write()
	pidFile := b.bundle + "/pid"
	b.ok(b.cli("create", "--bundle", b.bundle, "--pid-file="+pidFile, b.id))
	s := b.state()
	pid, err := os.ReadFile(pidFile)
	b.must(err)
	if s.Status != specs.StateCreated || s.ID != b.id || s.Bundle != b.bundle || strconv.Itoa(s.Pid) != string(pid) {
		t.Errorf("created: %+v, pid file %s", s, pid)
	}
	if _, err := os.Stat(b.bundle + "/rootfs/tmp/ran"); err == nil {
		t.Error("the program ran before start")
	}
	b.fails(b.cli("delete", b.id), 1, "created")
	b.fails(b.cli("create", "--bundle", b.bundle, b.id), 1, "already")
	b.ok(b.cli("start", b.id))
	b.fails(b.cli("start", b.id), 1, "running")
	b.await("the program ran", func() bool { _, err := os.Stat(b.bundle + "/rootfs/tmp/ran"); return err == nil })
	if s := b.state(); s.Status != specs.StateRunning {
		t.Errorf("started: %+v", s)
	}
	if out := b.ok(b.cli("list", "-q")); out != b.id+"\n" {
		t.Errorf("list: %q", out)
	}
	if out := b.ok(b.cli("list")); !strings.Contains(out, "running") {
		t.Errorf("list: %q", out)
	}
	var pids []int
	b.must(json.Unmarshal([]byte(b.ok(b.cli("ps", "--format", "json", b.id))), &pids))
	if !slices.Equal(pids, []int{s.Pid}) {
		t.Errorf("ps: %v", pids)
	}
	b.fails(b.cli("kill", b.id, "NONSENSE"), 1, "NONSENSE")
	b.ok(b.cli("kill", b.id, "KILL"))
	b.ok(b.cli("delete", b.id))
	b.fails(b.cli("state", b.id), 1, "does not exist")
	b.fails(b.cli("delete", b.id), 1, "does not exist")
	b.ok(b.cli("delete", "--force", b.id))
}

func TestRun(t *testing.T) {
	b := newBench(t, "sh", "-c", "id -u; hostname; echo $HOME; cat; exit 7")
	b.must(os.WriteFile(b.bundle+"/rootfs/etc/passwd", []byte("root:x:0:0:root:/the/root:/bin/sh\n"), 0o644))
	b.write()
	cmd := b.command("run", "-b", b.bundle, b.id)
	cmd.Stdin = strings.NewReader("input\n")
	if r := b.finish(cmd); r.status != 7 || r.out != "0\nbox\n/the/root\ninput\n" {
		t.Errorf("%+v", r)
	}
}

// A program that is not there, or that can't be executed, is told from everything else, also in the log; nothing is
// left.
func TestProgramNotFound(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		say    string
	}{
		{[]string{"nothing"}, 127, "executable file not found in $PATH"}, {[]string{"/bin/nothing"}, 127, "no such file or directory"},
		{[]string{"/etc"}, 126, "permission denied"},
	} {
		b := newBench(t, c.args...)
		b.write()
		log := b.bundle + "/log"
		for _, verb := range []string{"create", "run"} {
			b.fails(b.cli("--log", log, "--log-format", "json", verb, "-b", b.bundle, b.id), c.status, c.say)
		}
		content, err := os.ReadFile(log)
		b.must(err)
		var line struct{ Level, Msg, Time string }
		if err := json.Unmarshal(bytes.SplitN(content, []byte("\n"), 2)[0], &line); err != nil || line.Level != "error" || !strings.Contains(line.Msg, c.say) {
			t.Errorf("log %s, %v", content, err)
		}
		b.fails(b.cli("state", b.id), 1, "does not exist")
	}
}

// What fails only between create and start is the error of start.
func TestStartFails(t *testing.T) {
	b := newBench(t, "/bin/tool")
	b.must(os.WriteFile(b.bundle+"/rootfs/bin/tool", []byte("#!/bin/sh\n"), 0o755))
	b.write()
	b.ok(b.cli("create", "-b", b.bundle, b.id))
	b.must(os.Remove(b.bundle + "/rootfs/bin/tool"))
	b.fails(b.cli("start", b.id), 127, "no such file or directory")
	b.await("it is stopped", func() bool { return b.state().Status == specs.StateStopped })
	b.ok(b.cli("delete", b.id))
	// one whose process was killed meanwhile
	b.must(os.WriteFile(b.bundle+"/rootfs/bin/tool", []byte("#!/bin/sh\n"), 0o755))
	b.ok(b.cli("create", "-b", b.bundle, b.id))
	b.ok(b.cli("kill", b.id, "9"))
	b.await("it is stopped", func() bool { return b.state().Status == specs.StateStopped })
	b.fails(b.cli("start", b.id), 1, "stopped")
	b.ok(b.cli("delete", b.id))
}

func TestExec(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.write()
	b.ok(b.cli("run", "-d", "-b", b.bundle, b.id))
	if r := b.cli("exec", "--user", "5:6", "--env", "A=B", "--cwd", "/tmp", "-g", "9", b.id, "sh", "-c", "id -u; id -G; echo $A; pwd; exit 3"); r.status != 3 || r.out != "5\n6 9\nB\n/tmp\n" {
		t.Errorf("%+v", r)
	}
	process := filepath.Join(b.bundle, "process.json")
	b.must(os.WriteFile(process, []byte(`{"args":["sh","-c","echo $0 $X"],"cwd":"/","env":["X=y","PATH=/bin"]}`), 0o644))
	if out := b.ok(b.cli("exec", "--process", process, b.id)); out != "sh y\n" {
		t.Errorf("%q", out)
	}
	b.fails(b.cli("exec", b.id, "nothing"), 127, "not found")
	b.fails(b.cli("exec", b.id, "/etc"), 126, "permission denied")
	pidFile := b.bundle + "/execpid"
	b.ok(b.cli("exec", "-d", "--pid-file", pidFile, b.id, "sleep", "1000"))
	pid, err := os.ReadFile(pidFile)
	b.must(err)
	var pids []int
	b.must(json.Unmarshal([]byte(b.ok(b.cli("ps", "--format", "json", b.id))), &pids))
	if n, _ := strconv.Atoi(string(pid)); len(pids) != 2 || !slices.Contains(pids, n) {
		t.Errorf("ps %v, pid file %s", pids, pid)
	}
	b.ok(b.cli("kill", "--all", b.id, "KILL"))
	b.await("it is stopped", func() bool { return b.state().Status == specs.StateStopped })
	b.fails(b.cli("exec", b.id, "true"), 1, "stopped")
	b.ok(b.cli("delete", b.id))
}

// The six kinds of hooks run in their order, in the namespaces that are theirs, with the state.
func TestHooks(t *testing.T) {
	b := newBench(t, "true")
	log := b.bundle + "/log"
	hook := func(kind string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `read -r s; case "$s" in *\"` + b.id + `\"*) ;; *) s=bad;; esac; echo ` + kind + ` $(hostname) $(echo "$s" | sed 's/.*"status":"\([a-z]*\)".*/\1/') >>` + log}, Env: []string{"PATH=/bin:/usr/bin"}}}
	}
	inner := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo startContainer $(hostname) >>/tmp/log"}, Env: []string{"PATH=/bin"}}}
	//nolint:staticcheck // prestart is still used
	b.spec.Hooks = &specs.Hooks{Prestart: hook("prestart"), CreateRuntime: hook("createRuntime"), CreateContainer: hook("createContainer"),
		StartContainer: inner, Poststart: hook("poststart"), Poststop: hook("poststop")}
	b.write()
	b.ok(b.cli("run", "-b", b.bundle, b.id))
	host, err := os.Hostname()
	b.must(err)
	content, err := os.ReadFile(log)
	b.must(err)
	want := fmt.Sprintf("prestart %[1]s creating\ncreateRuntime %[1]s creating\ncreateContainer box creating\npoststart %[1]s running\npoststop %[1]s stopped\n", host)
	if string(content) != want {
		t.Errorf("%s\nwant\n%s", content, want)
	}
	if content, err := os.ReadFile(b.bundle + "/rootfs/tmp/log"); string(content) != "startContainer box\n" {
		t.Errorf("inside: %q, %v", content, err)
	}
	for name, hooks := range map[string]*specs.Hooks{
		"createRuntime":   {CreateRuntime: []specs.Hook{{Path: "/bin/false"}}},
		"createContainer": {CreateContainer: []specs.Hook{{Path: "/bin/false"}}},
		"startContainer":  {StartContainer: []specs.Hook{{Path: "/bin/false"}}},
		"poststart":       {Poststart: []specs.Hook{{Path: "/bin/false"}}},
	} {
		b.spec.Hooks = hooks
		b.write()
		if r := b.cli("run", "-b", b.bundle, b.id); r.status == 0 || !strings.Contains(r.err, name) {
			t.Errorf("%s: %+v", name, r)
		}
		b.cli("delete", "--force", b.id)
	}
}

func TestPauseUpdateEvents(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.write()
	b.ok(b.cli("run", "-d", "-b", b.bundle, b.id))
	b.ok(b.cli("pause", b.id))
	if s := b.state(); s.Status != "paused" {
		t.Errorf("paused: %+v", s)
	}
	b.fails(b.cli("exec", b.id, "true"), 1, "paused")
	b.ok(b.cli("resume", b.id))
	b.ok(b.cli("exec", b.id, "true"))
	cmd := b.command("update", "-r", "-", b.id)
	cmd.Stdin = strings.NewReader(`{"pids":{"limit":17},"memory":{"limit":33554432}}`)
	b.ok(b.finish(cmd))
	var events struct {
		Data struct {
			Pids   struct{ Limit uint64 }
			Memory struct{ Usage struct{ Limit uint64 } }
		}
	}
	b.must(json.Unmarshal([]byte(b.ok(b.cli("events", "--stats", b.id))), &events))
	if events.Data.Pids.Limit != 17 || events.Data.Memory.Usage.Limit != 33554432 {
		t.Errorf("%+v", events)
	}
	b.ok(b.cli("delete", "--force", b.id))
}

func TestConsoleSocket(t *testing.T) {
	b := newBench(t, "sh", "-c", "tty; echo $(stty size)")
	b.spec.Process.Terminal, b.spec.Process.ConsoleSize = true, &specs.Box{Height: 20, Width: 30}
	b.write()
	b.fails(b.cli("create", "-b", b.bundle, b.id), 1, "console-socket")
	// longer than a socket's name may be
	dir := b.bundle + "/" + strings.Repeat("d", 120)
	b.must(os.Mkdir(dir, 0o755))
	d, err := os.Open(dir)
	b.must(err)
	defer d.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	b.must(err)
	defer unix.Close(fd)
	b.must(unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/sock", d.Fd())}))
	b.must(unix.Listen(fd, 1))
	b.ok(b.cli("create", "-b", b.bundle, "--console-socket", dir+"/sock", b.id))
	conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
	b.must(err)
	defer unix.Close(conn)
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(conn, make([]byte, 64), oob, unix.MSG_CMSG_CLOEXEC)
	b.must(err)
	m, err := unix.ParseSocketControlMessage(oob[:n])
	b.must(err)
	fds, err := unix.ParseUnixRights(&m[0])
	b.must(err)
	master := os.NewFile(uintptr(fds[0]), "master")
	defer master.Close()
	b.ok(b.cli("start", b.id))
	out, _ := io.ReadAll(master) // EIO at its end
	if string(out) != "/dev/pts/0\r\n20 30\r\n" {
		t.Errorf("%q", out)
	}
	b.ok(b.cli("delete", "--force", b.id))
}

// A configuration that denies all devices still has those that are in every container, and no other.
func TestDefaultDevices(t *testing.T) {
	b := newBench(t, "sh", "-c", "echo x >/dev/null && head -c 1 /dev/zero >/dev/null && head -c 1 /dev/urandom >/dev/null && echo fine; head -c 1 /dev/kmsg 2>/dev/null || echo refused")
	b.spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11}}
	b.write()
	if out := b.ok(b.cli("run", "-b", b.bundle, b.id)); out != "fine\nrefused\n" {
		t.Errorf("%q", out)
	}
}

func TestPreserveDescriptors(t *testing.T) {
	b := newBench(t, "sh", "-c", "cat <&3; cat <&4; test -e /proc/self/fd/5 && echo more; exit 0")
	b.write()
	cmd := b.command("run", "--preserve-fds", "2", "-b", b.bundle, b.id)
	for _, content := range []string{"three\n", "four\n", "five\n"} {
		name := b.bundle + "/" + strings.TrimSpace(content)
		b.must(os.WriteFile(name, []byte(content), 0o644))
		f, err := os.Open(name)
		b.must(err)
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if r := b.finish(cmd); r.out != "three\nfour\n" {
		t.Errorf("%+v", r)
	}
}

// A seccomp profile of the configuration is compiled and holds.
func TestSeccomp(t *testing.T) {
	b := newBench(t, "sh", "-c", "mkdir /tmp/x 2>/dev/null || echo refused")
	b.must(os.Symlink("busybox", b.bundle+"/rootfs/bin/mkdir"))
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64},
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno}}}
	b.write()
	if out := b.ok(b.cli("run", "-b", b.bundle, b.id)); out != "refused\n" {
		t.Errorf("%q", out)
	}
}

func TestUserNamespace(t *testing.T) {
	b := newBench(t, "sh", "-c", "cat /proc/self/uid_map; id -u; touch /tmp/made")
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	b.spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	b.spec.Linux.GIDMappings = b.spec.Linux.UIDMappings
	b.spec.Linux.Resources = nil
	b.must(filepath.Walk(b.bundle+"/rootfs", func(p string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(p, 100000, 100000))
	}))
	b.write()
	if out := b.ok(b.cli("run", "-b", b.bundle, b.id)); out != "         0     100000      65536\n0\n" {
		t.Errorf("%q", out)
	}
}

// Signals reach the program of a run in the foreground.
func TestRunForwardsSignals(t *testing.T) {
	b := newBench(t, "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done")
	b.write()
	cmd := b.command("run", "-b", b.bundle, b.id)
	out, err := cmd.StdoutPipe()
	b.must(err)
	b.must(cmd.Start())
	line := make([]byte, 6)
	_, err = io.ReadFull(out, line)
	b.must(err)
	b.must(cmd.Process.Signal(unix.SIGTERM))
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 9 {
		t.Errorf("%v", cmd.ProcessState)
	}
}

// A create that is killed at any moment leaves nothing that delete --force does not remove.
func TestKilledCreate(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.write()
	for i := range 30 {
		cmd := b.command("create", "-b", b.bundle, b.id)
		b.must(cmd.Start())
		deadline := time.Now().Add(time.Duration(i) * time.Millisecond)
		for time.Now().Before(deadline) {
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		b.ok(b.cli("delete", "--force", b.id))
		if _, err := os.Stat(b.root + "/" + b.id); err == nil {
			t.Fatal("its directory is left")
		}
		if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + b.id); len(left) > 0 {
			t.Fatalf("killed after %d ms: left: %v", i, left)
		}
	}
}

func TestRefusals(t *testing.T) {
	b := newBench(t, "true")
	b.write()
	for _, c := range []struct {
		args []string
		say  string
	}{
		{[]string{"--systemd-cgroup", "create", "-b", b.bundle, b.id}, "cgroupfs"},
		{[]string{"create", "--no-pivot", "-b", b.bundle, b.id}, "--no-pivot"},
		{[]string{"create", "-b", b.bundle, "../x"}, "allowed"},
		{[]string{"create", "-b", b.bundle, ".."}, "allowed"},
		{[]string{"create", "-b", "/nonexistent", b.id}, "/nonexistent"},
		{[]string{"create", "-b"}, "needs a value"},
		{[]string{"create", "--wrong", b.id}, "--wrong"},
		{[]string{"create", "-b", b.bundle}, "one container"},
		{[]string{"dance", b.id}, "dance"},
		{[]string{"start", "nobody"}, "does not exist"},
		{[]string{"exec", "nobody", "true"}, "does not exist"},
		{[]string{"--log-format", "xml", "list"}, "xml"},
	} {
		b.fails(b.cli(c.args...), 1, c.say)
	}
	b.must(os.WriteFile(b.bundle+"/config.json", []byte(`{"ociVersion":"2.0.0"}`), 0o644))
	b.fails(b.cli("run", "-b", b.bundle, b.id), 1, "2.0.0")
	b.must(os.WriteFile(b.bundle+"/config.json", []byte(`{"ociVersion"`), 0o644))
	b.fails(b.cli("run", "-b", b.bundle, b.id), 1, "config.json")
}

func TestDryRun(t *testing.T) {
	b := newBench(t, "true")
	b.write()
	out := b.ok(b.cli("run", "--dry-run", "-b", b.bundle, b.id))
	if !strings.Contains(out, "execve(\"/bin/true\"") || !strings.Contains(out, "pivot_root") {
		t.Errorf("%s", out)
	}
	b.fails(b.cli("state", b.id), 1, "does not exist")
}

func TestFeaturesAndSpec(t *testing.T) {
	b := newBench(t, "true")
	var f struct {
		OCIVersionMax string
		Hooks         []string
	}
	b.must(json.Unmarshal([]byte(b.ok(b.cli("features"))), &f))
	if f.OCIVersionMax != specs.Version || len(f.Hooks) != 6 {
		t.Errorf("%+v", f)
	}
	if out := b.ok(b.cli("--version")); !strings.HasPrefix(out, "berth-runtime version test\n") {
		t.Errorf("%q", out)
	}
	b.ok(b.cli("spec", "-b", b.bundle))
	b.fails(b.cli("spec", "-b", b.bundle), 1, "already")
}
