package compile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-engine/berth/internal/testroot"
	"github.com/berth-engine/berth/runtime/cgroup"
	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func expect(t *testing.T, got outcome, status int, out string) {
	t.Helper()
	if got.err != nil || got.status != status || got.out != out {
		t.Errorf("status %d, %v, output\n%s\nwant %d\n%s", got.status, got.err, got.out, status, out)
	}
}

func TestDev(t *testing.T) {
	root := busybox(t)
	spec := specFor(root, "sh", "-c", "cd /dev && stat -c '%n %F %a %u:%g %t:%T' fuse full net/tun null random tty urandom zero && ls && for l in fd stdin stdout stderr ptmx core; do readlink $l; done && echo x >null && head -c 4 zero | od -An -tx1")
	spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: ptr(os.FileMode(0o640)), UID: ptr(uint32(7)), GID: ptr(uint32(8))},
		{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200}, {Path: "/dev/null", Type: "c", Major: 1, Minor: 3}}
	expect(t, run(t, spec, Inputs{}), 0, `fuse character special file 640 7:8 a:e5
full character special file 666 0:0 1:7
net/tun character special file 666 0:0 a:c8
null character special file 666 0:0 1:3
random character special file 666 0:0 1:8
tty character special file 666 0:0 5:0
urandom character special file 666 0:0 1:9
zero character special file 666 0:0 1:5
core
fd
full
fuse
mqueue
net
null
ptmx
pts
random
shm
stderr
stdin
stdout
tty
urandom
zero
/proc/self/fd
/proc/self/fd/0
/proc/self/fd/1
/proc/self/fd/2
pts/ptmx
/proc/kcore
 00 00 00 00
`)
}

func TestUserAndCapabilities(t *testing.T) {
	root := busybox(t)
	spec := specFor(root, "sh", "-c", "id -u; id -g; id -G; grep -E '^Cap' /proc/self/status; touch /tmp/f; stat -c %a /tmp/f")
	spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7, 9}, Umask: ptr(uint32(0o77))}
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN", "CAP_KILL"}, Permitted: []string{"CAP_KILL"}, Effective: []string{"CAP_KILL"},
		Inheritable: []string{"CAP_KILL"}, Ambient: []string{"CAP_KILL"}}
	if err := os.Chmod(root+"/tmp", 0o1777); err != nil {
		t.Fatal(err)
	}
	expect(t, run(t, spec, Inputs{}), 0, "1000\n1001\n1001 7 9\nCapInh:\t0000000000000020\nCapPrm:\t0000000000000020\nCapEff:\t0000000000000020\nCapBnd:\t0000000000000021\nCapAmb:\t0000000000000020\n600\n")
	// what was lost can't be come by again
	spec.Process.Capabilities, spec.Process.User = nil, specs.User{}
	spec.Process.Args = []string{"sh", "-c", "chown 5 /tmp/f 2>/dev/null || echo refused; mount -t tmpfs x /tmp 2>/dev/null || echo refused; mknod /tmp/n c 1 3 2>/dev/null || echo refused"}
	expect(t, run(t, spec, Inputs{}), 0, "refused\nrefused\nrefused\n")
}

func TestReadOnly(t *testing.T) {
	root := busybox(t)
	data := testroot.Dir(t)
	if err := os.Mkdir(data+"/below", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("below", data+"/below", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(data+"/below", unix.MNT_DETACH)
	spec := specFor(root, "sh", "-c", "for f in /x /ro/x /ro/below/x /rro/x /rro/below/x /dev/shm/x /proc/sys/x /sys/x; do touch $f 2>/dev/null && echo $f; done; exit 0")
	spec.Root.Readonly = true
	for _, d := range []string{"ro", "rro"} {
		if err := os.Mkdir(root+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	spec.Mounts = append(spec.Mounts, bind(data, "/ro", "ro"), bind(data, "/rro", "rro"))
	expect(t, run(t, spec, Inputs{}), 0, "/ro/below/x\n/dev/shm/x\n")
}

func TestLimitsAndScheduling(t *testing.T) {
	root := busybox(t)
	spec := specFor(root, "sh", "-c", "ulimit -n; ulimit -H -n; ulimit -c; cut -d' ' -f19 /proc/self/stat; cat /proc/self/personality")
	spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 50, Hard: 60}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
	spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 3}
	spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	expect(t, run(t, spec, Inputs{}), 0, "50\n60\n0\n3\n00000008\n")
}

// More than our own hard limit is cut where it may not be raised: nobody may have more files than the kernel's most.
func TestLimitAboveOurOwn(t *testing.T) {
	root := busybox(t)
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		t.Fatal(err)
	}
	most, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	spec := specFor(root, "sh", "-c", "ulimit -H -n; exit 0")
	spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: most + 1, Hard: most + 1}}
	expect(t, run(t, spec, Inputs{}), 0, fmt.Sprintln(own.Max))
}

func TestNamesAndSysctls(t *testing.T) {
	root := busybox(t)
	spec := specFor(root, "sh", "-c", "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
	spec.Domainname = "example.org"
	spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel/msgmax": "12345"}
	expect(t, run(t, spec, Inputs{}), 0, "box\nexample.org\n1\n12345\n")
	spec.Linux.Sysctl = map[string]string{"net.ipv4.nothing": "1"}
	var f *script.Failure
	if got := run(t, spec, Inputs{}); !errors.As(got.err, &f) || f.Errno != unix.ENOENT || f.Object != "net.ipv4.nothing" {
		t.Errorf("%v", got.err)
	}
}

func TestWorkingDirectory(t *testing.T) {
	root := busybox(t)
	spec := specFor(root, "sh", "-c", "pwd; stat -c %a /a /a/b /a/b/c")
	spec.Process.Cwd = "/a/b/c"
	var f *script.Failure
	if got := run(t, spec, Inputs{}); !errors.As(got.err, &f) || f.Object != "/a/b/c" || f.Errno != unix.ENOENT {
		t.Errorf("%v", got.err)
	}
	expect(t, run(t, spec, Inputs{MakeCwd: true}), 0, "/a/b/c\n755\n755\n755\n")
	expect(t, run(t, spec, Inputs{MakeCwd: true}), 0, "/a/b/c\n755\n755\n755\n")
}

func TestTerminal(t *testing.T) {
	root := busybox(t)
	spec := specFor(root, "sh", "-c", "tty; stty size; stat -c '%u %a' /dev/pts/0; ls -l /dev/console | cut -c1; cut -d' ' -f7 /proc/self/stat; echo x >/dev/tty; test -t 2; echo $?")
	spec.Process.Terminal, spec.Process.ConsoleSize, spec.Process.User.UID = true, &specs.Box{Height: 33, Width: 77}, 1000
	out := withTerminal(t, func(console *os.File) (int, error) {
		p, err := Start(spec, Inputs{Console: console})
		if err != nil {
			return 0, err
		}
		defer p.Close()
		c, err := p.Launch()
		if err != nil {
			return 0, err
		}
		return c.Pid, c.PidFD.Close()
	})
	if want := "/dev/pts/0\n33 77\n1000 620\nc\n34816\nx\n0\n"; out != want { // 34816 is 136:0
		t.Errorf("%q, want %q", out, want)
	}
}

func TestExecTerminal(t *testing.T) {
	root := busybox(t)
	spec := specFor(root, "sleep", "1000")
	pid := background(t, spec, Inputs{})
	process := *spec.Process
	process.Terminal, process.Args = true, []string{"sh", "-c", "tty; test -t 0; echo $?; echo x >/dev/tty"}
	out := withTerminal(t, func(console *os.File) (int, error) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return 0, err
		}
		target := os.NewFile(uintptr(fd), "pidfd")
		defer target.Close()
		ns, err := NamespacesOf(pid)
		if err != nil {
			return 0, err
		}
		p, err := Exec(&process, ExecInputs{Inputs: Inputs{Console: console}, Target: target, Namespaces: ns})
		if err != nil {
			return 0, err
		}
		defer p.Close()
		c, err := p.Launch()
		if err != nil {
			return 0, err
		}
		return c.Pid, c.PidFD.Close()
	})
	if want := "/dev/pts/0\n0\nx\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
}

// withTerminal starts something that sends its terminal, and returns what comes out of it, with \r taken away.
func withTerminal(t *testing.T, start func(console *os.File) (pid int, err error)) string {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "console")
	defer unix.Close(pair[0])
	pid, err := start(theirs)
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	oob, data := make([]byte, unix.CmsgSpace(4)), make([]byte, 64)
	n, oobn, _, _, err := unix.Recvmsg(pair[0], data, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || string(data[:n]) != "/dev/ptmx" {
		t.Fatalf("%q, %v", data[:n], err)
	}
	m, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&m[0])
	if err != nil {
		t.Fatal(err)
	}
	master := os.NewFile(uintptr(fds[0]), "master")
	defer master.Close()
	var b bytes.Buffer
	_, _ = io.Copy(&b, master) // EIO when nobody has the other side
	wait(t, pid)
	return strings.ReplaceAll(b.String(), "\r", "")
}

// mappedSpec is a container in a user namespace.
func mappedSpec(t *testing.T, root string, args ...string) *specs.Spec {
	spec := specFor(root, args...)
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	spec.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
	err := filepath.Walk(root, func(p string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(p, 100000, 200000))
	})
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestUserNamespace(t *testing.T) {
	root := busybox(t)
	// only the host's root may look through what is above
	if err := os.Chmod(filepath.Dir(root), 0o700); err != nil {
		t.Fatal(err)
	}
	data := testroot.Dir(t)
	mustWrite(t, data+"/f", "data\n")
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	spec := mappedSpec(t, root, "sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /made; stat -c %u:%g /made /dev/null /dev; echo x >/dev/null; cat /data/f; mount -t tmpfs x /tmp; echo $?; cat /proc/self/oom_score_adj; cat /proc/timer_list | wc -c")
	spec.Process.Capabilities.Bounding = append(spec.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
	spec.Process.Capabilities.Permitted, spec.Process.Capabilities.Effective = spec.Process.Capabilities.Bounding, spec.Process.Capabilities.Bounding
	spec.Process.OOMScoreAdj = ptr(100)
	spec.Mounts = append(spec.Mounts, bind(data, "/data"))
	got := run(t, spec, Inputs{})
	expect(t, got, 0, "         0     100000      65536\n         0     200000      65536\n0\n0:0\n65534:65534\n0:0\ndata\n0\n100\n0\n")
	var st unix.Stat_t
	if err := unix.Lstat(root+"/made", &st); err != nil || st.Uid != 100000 || st.Gid != 200000 {
		t.Errorf("on the host it belongs to %d:%d, %v", st.Uid, st.Gid, err)
	}
}

func TestExecInUserNamespace(t *testing.T) {
	root := busybox(t)
	spec := mappedSpec(t, root, "sleep", "1000")
	pid := background(t, spec, Inputs{})
	process := *spec.Process
	process.Args = []string{"sh", "-c", "id -u; cat /proc/self/uid_map; grep CapEff /proc/self/status; ls /"}
	process.User = specs.User{UID: 5, GID: 6}
	got := execIn(t, pid, &process, ExecInputs{})
	expect(t, got, 0, "5\n         0     100000      65536\nCapEff:\t0000000000000000\nbin\ndev\netc\nproc\nroot\nsys\ntmp\n")
}

// A second container joins the user, pid, network and IPC namespaces of a first one by path, as in a pod.
func TestJoinNamespaces(t *testing.T) {
	root := busybox(t)
	pid := background(t, mappedSpec(t, root, "sleep", "1000"), Inputs{})
	second := busybox(t)
	spec := mappedSpec(t, second, "sh", "-c", "for n in user net ipc pid; do readlink /proc/self/ns/$n; done; ps | grep -c '[s]leep 1000'; id -u; touch /x; stat -c %u /x")
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = nil, nil
	var want string
	for _, kind := range []specs.LinuxNamespaceType{specs.UserNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.PIDNamespace} {
		name := map[specs.LinuxNamespaceType]string{specs.UserNamespace: "user", specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.PIDNamespace: "pid"}[kind]
		path := fmt.Sprintf("/proc/%d/ns/%s", pid, name)
		id, err := os.Readlink(path)
		if err != nil {
			t.Fatal(err)
		}
		want += id + "\n"
		for i := range spec.Linux.Namespaces {
			if spec.Linux.Namespaces[i].Type == kind {
				spec.Linux.Namespaces[i].Path = path
			}
		}
	}
	// a network namespace that belongs to another user namespace's owner has no sysfs of ours
	expect(t, run(t, spec, Inputs{}), 0, want+"1\n0\n0\n")
}

// A network namespace of the host's, made ahead, for a container in a user namespace of its own.
func TestNewUserNamespaceWithJoinedNetwork(t *testing.T) {
	root := busybox(t)
	holder := exec.Command("unshare", "-n", "sleep", "1000")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { holder.Process.Kill(); holder.Wait() }()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid)
	var id string
	await(t, func() bool { id, _ = os.Readlink(path); return id != "" && id != own })
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	spec := mappedSpec(t, root, "sh", "-c", "readlink /proc/self/ns/net; id -u")
	spec.Mounts = append(spec.Mounts[:3:3], spec.Mounts[4:]...) // no sysfs: the network is not the namespace's own
	expect(t, run(t, spec, Inputs{Namespaces: map[specs.LinuxNamespaceType]*os.File{specs.NetworkNamespace: f}}), 0, id+"\n0\n")
}

// await polls until a condition holds.
func await(t testing.TB, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to pass within a minute")
		}
	}
}

// testGroup is a cgroup of the test's own.
func testGroup(t *testing.T, r *specs.LinuxResources) *cgroup.Group {
	t.Helper()
	system, err := cgroup.Find()
	if errors.Is(err, cgroup.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	g, err := system.Group("/"+testroot.Name(t), cgroup.More(r)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(g.Kill(ctx), g.Destroy(ctx)); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(g.Create(), g.Set(r)); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestCgroup(t *testing.T) {
	root := busybox(t)
	memory, pids := int64(16<<20), int64(6)
	g := testGroup(t, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory}, Pids: &specs.LinuxPids{Limit: &pids}})
	start := func(args ...string) outcome {
		j, err := g.Join()
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		spec := specFor(root, args...)
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}})
		return run(t, spec, Inputs{Cgroup: j})
	}
	// the container sees its own group as the root, and its limits
	expect(t, start("sh", "-c", "cut -d: -f3 /proc/self/cgroup | sort -u; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; touch /sys/fs/cgroup/x 2>/dev/null || echo refused"), 0, "/\n16777216\nrefused\n")
	if got := start("sh", "-c", "dd if=/dev/zero of=/dev/null bs=40M count=1 2>/dev/null"); got.err != nil || got.status != 137 {
		t.Errorf("too much memory: status %d, %v", got.status, got.err)
	}
	if n, err := g.OOMKills(); n == 0 || err != nil {
		t.Errorf("%d kills for want of memory, %v", n, err)
	}
	got := start("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.1 & done; wait")
	if got.err != nil || !strings.Contains(got.out, "can't fork") {
		t.Errorf("too many processes: %q, %v", got.out, got.err)
	}
}

func TestInit(t *testing.T) {
	root := busybox(t)
	expect(t, run(t, specFor(root, "sh", "-c", "echo $$ $PPID; ps | grep -v grep | grep -c ' init'; cat /proc/1/comm /proc/1/cmdline; exit 42"), Inputs{Init: true}), 42, "2 1\n1\ninit\ninit"+strings.Repeat("\x00", len(cmdline(t))-len("init")))
	expect(t, run(t, specFor(root, "sh", "-c", "kill -SEGV $$"), Inputs{Init: true}), 139, "")
	// an orphan is reaped
	expect(t, run(t, specFor(root, "sh", "-c", "sh -c 'sleep 0.05 & true'; while ps | grep -v grep | grep -q 'sleep 0.05'; do :; done; ps | grep -c '\\[sleep\\]'"), Inputs{Init: true}), 1, "0\n")
	// a program that is not there is still told
	var f *script.Failure
	if got := run(t, specFor(root, "nothing"), Inputs{Init: true}); !errors.As(got.err, &f) || f.Status() != 127 {
		t.Errorf("%v", got.err)
	}
	// signals come through
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := Start(specFor(root, "sh", "-c", "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.02; done"), Inputs{Init: true, Stdio: [3]*os.File{nil, w, w}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := p.Launch()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	defer c.PidFD.Close()
	line := make([]byte, 6)
	if _, err := io.ReadFull(r, line); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(c.Pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(r)
	if status := wait(t, c.Pid); status != 3 || string(rest) != "got it\n" {
		t.Errorf("status %d, %q", status, rest)
	}
}

func cmdline(t *testing.T) []byte {
	b, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHooksInside(t *testing.T) {
	root := busybox(t)
	log := testroot.Dir(t) + "/log"
	spec := specFor(root, "sh", "-c", "cat /hooked")
	script := func(text string) []string { return []string{"sh", "-c", text} }
	spec.Hooks = &specs.Hooks{
		CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: script("echo createContainer $(hostname) $(cat) >>" + log), Env: []string{"PATH=/bin:/usr/bin"}}},
		StartContainer:  []specs.Hook{{Path: "/bin/sh", Args: script("cat >/hooked; ls / >>/hooked"), Env: []string{"PATH=/bin"}}},
	}
	var pid int
	in := Inputs{Created: func(p int) error { pid = p; return nil }, State: func(int) ([]byte, error) { return []byte("{state}"), nil }}
	expect(t, run(t, spec, in), 0, "{state}bin\ndev\netc\nhooked\nproc\nroot\nsys\ntmp\n")
	if b, err := os.ReadFile(log); string(b) != "createContainer box {state}\n" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if pid == 0 {
		t.Error("nobody was told of the pid")
	}
	for name, h := range map[string]specs.Hook{"status": {Path: "/bin/sh", Args: script("exit 3")}, "missing": {Path: "/nothing"}, "slow": {Path: "/bin/sh", Args: script("while :; do :; done"), Timeout: ptr(1)}} {
		spec.Hooks.CreateContainer = []specs.Hook{h}
		got := run(t, spec, in)
		want := map[string]unix.Errno{"status": unix.ECANCELED, "missing": unix.ECANCELED, "slow": unix.ETIMEDOUT}[name]
		if !errors.Is(got.err, want) || !strings.Contains(got.err.Error(), "createContainer hook "+h.Path) {
			t.Errorf("%s: %v", name, got.err)
		}
	}
	// one of the runtime's that fails ends the start, and nothing is left
	in.Created = func(p int) error { pid = p; return errors.New("no") }
	if got := run(t, spec, in); got.err == nil || got.err.Error() != "no" {
		t.Errorf("%v", got.err)
	}
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("the child is still there: %v", err)
	}
}

// Mounts that the host makes later are seen through rslave, not through the default; what the container mounts is seen on
// the host through rshared only.
func TestPropagation(t *testing.T) {
	root := busybox(t)
	volume := testroot.Dir(t)
	if err := unix.Mount("volume", volume, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(volume, unix.MNT_DETACH)
	if err := unix.Mount("", volume, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"host", "container"} {
		if err := os.Mkdir(volume+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		option, root        string
		fromHost, fromInner bool
	}{{"rprivate", "", false, false}, {"rslave", "", true, false}, {"rshared", "shared", true, true}} {
		spec := specFor(root, "sh", "-c", "mount -t tmpfs inner /vol/container && while [ ! -e /vol/stop ]; do sleep 0.01; done; test -e /vol/host/seen && echo seen; exit 0")
		spec.Linux.RootfsPropagation = c.root
		caps := append(spec.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
		spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		spec.Mounts = append(spec.Mounts, bind(volume, "/vol", c.option))
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p, err := Start(spec, Inputs{Stdio: [3]*os.File{nil, w, w}})
		if err != nil {
			t.Fatal(err)
		}
		ch, err := p.Launch()
		if err != nil {
			t.Fatal(c.option, err)
		}
		w.Close()
		await(t, func() bool {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", ch.Pid))
			return err != nil || strings.Contains(string(b), "/vol/container ")
		})
		if err := unix.Mount("later", volume+"/host", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, volume+"/host/seen", "")
		own, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(own), volume+"/container "); got != c.fromInner {
			t.Errorf("%s: the host sees the container's mount: %v", c.option, got)
		}
		mustWrite(t, volume+"/stop", "")
		b, _ := io.ReadAll(r)
		r.Close()
		wait(t, ch.Pid)
		ch.PidFD.Close()
		p.Close()
		if got := string(b) == "seen\n"; got != c.fromHost {
			t.Errorf("%s: the container sees the host's mount: %v (%q)", c.option, got, b)
		}
		_ = unix.Unmount(volume+"/host", unix.MNT_DETACH)
		_ = unix.Unmount(volume+"/container", unix.MNT_DETACH)
		if err := os.Remove(volume + "/stop"); err != nil {
			t.Fatal(err)
		}
	}
}

// A detached rootfs and detached trees, as the engine hands them over; and descriptors that the program keeps.
func TestDescriptors(t *testing.T) {
	root := busybox(t)
	data := testroot.Dir(t)
	mustWrite(t, data+"/f", "data\n")
	detached := func(path string) *os.File {
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), path)
		t.Cleanup(func() { f.Close() })
		return f
	}
	spec := specFor("", "sh", "-c", "cat /data/f /etc/hosts; touch /data/x 2>/dev/null || echo refused; cat /proc/self/mountinfo | wc -l")
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: "nowhere", Options: []string{"rbind", "ro"}}, specs.Mount{Destination: "/etc/hosts", Type: "bind"})
	in := Inputs{Root: detached(root), Mounts: []Mount{{"/data", detached(data)}, {"/etc/hosts", detached(data + "/f")}}}
	expect(t, run(t, spec, in), 0, "data\ndata\nrefused\n9\n")
}

// Nothing of a start is left: descriptors, mounts, processes, whatever became of it.
func TestNothingIsLeft(t *testing.T) {
	root := busybox(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	count := func() (fds int, mounts int) {
		l, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return len(l), strings.Count(string(b), root)
	}
	run(t, specFor(root, "true"), Inputs{})
	fds, mounts := count()
	for range 5 {
		run(t, specFor(root, "true"), Inputs{})
		run(t, specFor(root, "nothing"), Inputs{})
		spec := specFor(root, "true")
		spec.Mounts = append(spec.Mounts, bind("/etc", "/bin/busybox/x"))
		run(t, spec, Inputs{})
		run(t, specFor(root, "true"), Inputs{Init: true})
		run(t, mappedSpec(t, root, "true"), Inputs{})
	}
	if f, m := count(); f != fds || m != mounts {
		t.Errorf("%d descriptors and %d mounts, before %d and %d", f, m, fds, mounts)
	}
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a child is left: %v", err)
	}
}
