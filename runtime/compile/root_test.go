package compile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/berth-engine/berth/internal/testroot"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// busybox makes a rootfs of one static program and its links.
func busybox(t testing.TB) string {
	t.Helper()
	testroot.Require(t)
	program, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs the static busybox (Debian: busybox-static)")
	}
	dir := filepath.Join(testroot.Dir(t), "rootfs")
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp", "etc", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/bin/busybox", b, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Fields("sh cat ls echo sleep id stat mount env readlink ps kill hostname true false grep touch mkdir ulimit chmod dd head tail test sort wc cut tty pwd nice su od stty umount mknod chown rm ln cp") {
		if err := os.Symlink("busybox", dir+"/bin/"+l); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// specFor is a configuration as an engine writes it.
func specFor(rootfs string, args ...string) *specs.Spec {
	caps := strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE")
	return &specs.Spec{
		Version:  "1.3.0",
		Root:     &specs.Root{Path: rootfs},
		Hostname: "box",
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/usr/local/bin:/bin", "HOME=/root"}, NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.CgroupNamespace}},
			MaskedPaths: []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
				"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// outcome is what came of a start.
type outcome struct {
	out    string
	status int
	err    error
}

// run starts a whole container and waits for its end.
func run(t testing.TB, spec *specs.Spec, in Inputs) outcome {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if in.Stdio[1] == nil {
		in.Stdio = [3]*os.File{null, w, w}
	}
	p, err := Start(spec, in)
	if err != nil {
		w.Close()
		return outcome{err: err}
	}
	defer p.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := p.Launch()
	w.Close()
	if err != nil {
		return outcome{err: err}
	}
	defer c.PidFD.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, r); err != nil {
		t.Fatal(err)
	}
	return outcome{out: b.String(), status: wait(t, c.Pid)}
}

func wait(t testing.TB, pid int) int {
	t.Helper()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return ws.ExitStatus()
	}
}

func TestRun(t *testing.T) {
	root := busybox(t)
	got := run(t, specFor(root, "sh", "-c", "hostname; id -u; pwd; echo $$; cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l; echo x 2>/dev/null >/proc/sysrq-trigger || echo refused; exit 5"), Inputs{})
	if got.err != nil {
		t.Fatal(got.err)
	}
	if want := "box\n0\n/\n1\n0\n0\nrefused\n"; got.out != want || got.status != 5 {
		t.Errorf("status %d, output %q, want %q", got.status, got.out, want)
	}
}

// execIn starts another process in the container of process pid.
func execIn(t testing.TB, pid int, process *specs.Process, in ExecInputs) outcome {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	in.Target = os.NewFile(uintptr(fd), "pidfd")
	defer in.Target.Close()
	if in.Namespaces, err = NamespacesOf(pid); err != nil {
		t.Fatal(err)
	}
	in.Stdio = [3]*os.File{nil, w, w}
	p, err := Exec(process, in)
	if err != nil {
		w.Close()
		return outcome{err: err}
	}
	defer p.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := p.Launch()
	w.Close()
	if err != nil {
		return outcome{err: err}
	}
	defer c.PidFD.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return outcome{out: string(b), status: wait(t, c.Pid)}
}

// background starts a container that goes on until the test ends.
func background(t testing.TB, spec *specs.Spec, in Inputs) int {
	t.Helper()
	p, err := Start(spec, in)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := p.Launch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.PidfdSendSignal(int(c.PidFD.Fd()), unix.SIGKILL, nil, 0)
		wait(t, c.Pid)
		c.PidFD.Close()
	})
	return c.Pid
}

func TestExec(t *testing.T) {
	root := busybox(t)
	spec := specFor(root, "sleep", "1000")
	pid := background(t, spec, Inputs{})
	process := *spec.Process
	process.Args = []string{"sh", "-c", "hostname; ls /proc/self/ns | wc -l; exit 9"}
	got := execIn(t, pid, &process, ExecInputs{})
	if got.err != nil {
		t.Fatal(got.err)
	}
	if want := "box\n"; !strings.HasPrefix(got.out, want) || got.status != 9 {
		t.Errorf("status %d, output %q", got.status, got.out)
	}
}

// The container's mount namespace holds what was asked for and nothing else: not the host's root, nor what the
// start itself needed. An exec, which enters at the namespace's own root, sees the same.
func TestMountsAreExactlyThese(t *testing.T) {
	root := busybox(t)
	for _, masked := range []bool{true, false} {
		spec := specFor(root, "sleep", "1000")
		want := []string{"/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc", "/proc/acpi", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/keys", "/proc/sys",
			"/proc/sysrq-trigger", "/proc/timer_list", "/sys", "/sys/firmware"}
		if !masked {
			spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
			want = []string{"/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc", "/sys"}
		}
		want = slices.DeleteFunc(want, func(p string) bool { // what this kernel does not have
			_, err := os.Stat(p)
			return err != nil && !strings.HasPrefix(p, "/dev")
		})
		pid := background(t, spec, Inputs{})
		if got := mountPoints(t, pid); !slices.Equal(got, want) {
			t.Errorf("masked %v: mounts %v, want %v", masked, got, want)
		}
		process := *spec.Process
		process.Args = []string{"ls", "/"}
		if got := execIn(t, pid, &process, ExecInputs{}); got.err != nil || got.out != "bin\ndev\netc\nproc\nroot\nsys\ntmp\n" {
			t.Errorf("an exec sees %q, %v", got.out, got.err)
		}
	}
}

// mountPoints lists the mount points of a process's namespace, sorted.
func mountPoints(t testing.TB, pid int) (l []string) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		l = append(l, strings.Fields(line)[4])
	}
	slices.Sort(l)
	return l
}

// A slot that was prepared before its container was known.
func TestSlot(t *testing.T) {
	root := busybox(t)
	prepared := specFor("", "none")
	prepared.Process, prepared.Hostname, prepared.Root = nil, "", nil
	p, err := Prepare(prepared, Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := p.Launch()
	if err != nil {
		t.Fatal(err)
	}
	defer c.PidFD.Close()
	tree, err := unix.OpenTree(unix.AT_FDCWD, root, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	rootfs := os.NewFile(uintptr(tree), "rootfs")
	defer rootfs.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	spec := specFor("", "sh", "-c", "hostname; ls /; cut -d' ' -f5 /proc/self/mountinfo | grep -v /proc/ | grep -v /sys/ | sort; exit 3")
	if err := p.Finish(spec, Inputs{Root: rootfs, Stdio: [3]*os.File{nil, w, w}}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	b, _ := io.ReadAll(r)
	want := "box\nbin\ndev\netc\nproc\nroot\nsys\ntmp\n/\n/dev\n/dev/mqueue\n/dev/pts\n/dev/shm\n/proc\n/sys\n"
	if status := wait(t, c.Pid); status != 3 || string(b) != want {
		t.Errorf("status %d, output %q", status, b)
	}
}
