package compile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/berth-engine/berth/internal/testroot"
	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// bind is a bind mount of source onto dest.
func bind(source, dest string, options ...string) specs.Mount {
	return specs.Mount{Destination: dest, Type: "bind", Source: source, Options: append([]string{"rbind"}, options...)}
}

func mustWrite(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mustLink(t testing.TB, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// Links of the image end inside of the container's root, also absolute ones and those with too many "..".
func TestMountTargetsThroughLinks(t *testing.T) {
	root := busybox(t)
	host := testroot.Dir(t) // what the image would like to reach
	data := testroot.Dir(t)
	mustWrite(t, data+"/f", "data")
	mustLink(t, host, root+"/absolute")
	mustLink(t, "../../../../../../../../.."+host, root+"/upwards")
	mustLink(t, "../run/systemd/resolve/stub-resolv.conf", root+"/etc/resolv.conf") // leads to nothing, as on Debian with systemd
	spec := specFor(root, "sh", "-c", "cat /absolute/x/f /upwards/y/f /etc/resolv.conf /run/systemd/resolve/stub-resolv.conf")
	spec.Mounts = append(spec.Mounts, bind(data, "/absolute/x"), bind(data, "/upwards/y"), bind(data+"/f", "/etc/resolv.conf"))
	got := run(t, spec, Inputs{})
	if got.err != nil || got.out != "datadatadatadata" {
		t.Errorf("%q, %v", got.out, got.err)
	}
	if l, _ := os.ReadDir(host); len(l) != 0 {
		t.Errorf("the host's directory has %v", l)
	}
	for _, p := range []string{root + host + "/x", root + host + "/y", root + "/run/systemd/resolve/stub-resolv.conf"} {
		if _, err := os.Lstat(p); err != nil {
			t.Errorf("the target was not made inside: %v", err)
		}
	}
}

// A loop of links, and a link in /proc that would lead out, are refused.
func TestMountTargetsThatGoNowhere(t *testing.T) {
	root := busybox(t)
	mustLink(t, "loop", root+"/loop")
	mustLink(t, "/proc/self/root", root+"/magic")
	for dest, errno := range map[string]unix.Errno{"/loop/x": unix.ELOOP, "/magic/x": unix.ELOOP, "/bin/busybox/x": unix.ENOTDIR} {
		spec := specFor(root, "true")
		spec.Mounts = append(spec.Mounts, bind("/etc", dest))
		var f *script.Failure
		if got := run(t, spec, Inputs{}); !errors.As(got.err, &f) || f.Errno != errno || f.Status() != 125 {
			t.Errorf("%s: %v, want %v", dest, got.err, errno)
		}
	}
}

// CVE-2021-30465: somebody exchanges a directory of a shared volume and a link while a container that mounts below it
// starts. Whatever happens, nothing is made or mounted outside.
func TestMountTargetRace(t *testing.T) {
	root := busybox(t)
	volume, outside := testroot.Dir(t), testroot.Dir(t)
	if err := os.Mkdir(volume+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	mustLink(t, outside, volume+"/l")
	spec := specFor(root, "ls", "/vol/d")
	spec.Mounts = append(spec.Mounts, bind(volume, "/vol"), bind("/etc", "/vol/d/deep/etc"))
	stop := make(chan struct{})
	var attacker sync.WaitGroup
	attacker.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, volume+"/d", unix.AT_FDCWD, volume+"/l", unix.RENAME_EXCHANGE)
			}
		}
	})
	started := 0
	for range 60 {
		if got := run(t, spec, Inputs{}); got.err == nil {
			started++
		}
		if l, _ := os.ReadDir(outside); len(l) != 0 {
			t.Fatalf("outside has %v", l)
		}
	}
	close(stop)
	attacker.Wait()
	if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(b), outside) {
		t.Errorf("something is mounted outside, or %v", err)
	}
	t.Logf("%d of 60 started", started)
}

// What the image has at the places of /proc and /sys does not matter for what is hidden there.
func TestMasksHoldAgainstTheImage(t *testing.T) {
	root := busybox(t)
	for _, d := range []string{"proc", "sys"} {
		if err := os.Remove(root + "/" + d); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(root+"/elsewhere/p", 0o755); err != nil {
		t.Fatal(err)
	}
	mustLink(t, "/elsewhere/p", root+"/proc")
	got := run(t, specFor(root, "sh", "-c", "cat /proc/timer_list | wc -c; cat /elsewhere/p/timer_list | wc -c; echo 1 2>/dev/null >/proc/sys/kernel/printk || echo refused; ls /sys/firmware | wc -l"), Inputs{})
	if got.err != nil || got.out != "0\n0\nrefused\n0\n" {
		t.Errorf("%q, %v", got.out, got.err)
	}
}

// A working directory that is one of our own descriptors would be on the host (CVE-2024-21626).
func TestWorkingDirectoryOnTheHost(t *testing.T) {
	root := busybox(t)
	leak, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	for fd := 3; fd < 30; fd++ {
		spec := specFor(root, "sh", "-c", "ls")
		spec.Process.Cwd = "/proc/self/fd/" + itoa(fd)
		got := run(t, spec, Inputs{})
		var f *script.Failure
		if !errors.As(got.err, &f) || f.Step != "enter the working directory" {
			t.Fatalf("descriptor %d: %q, %v", fd, got.out, got.err)
		}
	}
}

func itoa(n int) string {
	return string(append([]byte(nil), byte('0'+n/10), byte('0'+n%10))[map[bool]int{true: 1}[n < 10]:])
}

// Which file is executed is decided inside, as the user, and each failure is told from the others.
func TestProgramNotExecuted(t *testing.T) {
	root := busybox(t)
	mustWrite(t, root+"/bin/data", "no program")
	mustWrite(t, root+"/bin/garbage", "\x01\x02")
	mustWrite(t, root+"/bin/noloader", "#!/nonexistent/interpreter\n")
	mustWrite(t, root+"/first/tool", "may not be executed")
	mustWrite(t, root+"/bin/tool", "#!/bin/sh\necho $1\n")
	for _, f := range []string{"garbage", "noloader", "tool"} {
		if err := os.Chmod(root+"/bin/"+f, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		command string
		errno   unix.Errno
		status  int
	}{
		{"nothing", unix.ENOENT, 127}, {"/bin/nothing", unix.ENOENT, 127}, {"/bin/sh/x", unix.ENOTDIR, 127}, {"data", unix.EACCES, 126},
		{"/bin/data", unix.EACCES, 126}, {"garbage", unix.ENOEXEC, 126}, {"noloader", unix.ENOENT, 127}, {"/bin", unix.EACCES, 126}, {"./bin/nothing", unix.ENOENT, 127},
	} {
		got := run(t, specFor(root, c.command), Inputs{})
		var f *script.Failure
		if !errors.As(got.err, &f) || f.Errno != c.errno || f.Status() != c.status || f.Object != c.command {
			t.Errorf("%s: %v, want %v", c.command, got.err, c.errno)
		}
	}
	spec := specFor(root, "tool", "found")
	spec.Process.Env = []string{"PATH=/nowhere:/first:/bin"}
	if got := run(t, spec, Inputs{}); got.err != nil || got.out != "found\n" {
		t.Errorf("a file that may not be executed comes first: %q, %v", got.out, got.err)
	}
}

// A filter that denies writing (and most of all else) does not make a failed start look like success.
func TestFilterThatDeniesWriting(t *testing.T) {
	root := busybox(t)
	for _, command := range []string{"/nothing", "nothing"} {
		got := run(t, specFor(root, command), Inputs{Filter: denying(unix.SYS_WRITE, unix.SYS_SENDMSG, unix.SYS_SENDTO, unix.SYS_EXIT_GROUP)})
		var f *script.Failure
		if !errors.As(got.err, &f) || f.Status() != 127 {
			t.Errorf("%s: %v", command, got.err)
		}
	}
}

// Without no_new_privs the filter needs CAP_SYS_ADMIN, which the program must not have afterwards.
func TestFilterWithoutNoNewPrivs(t *testing.T) {
	root := busybox(t)
	for _, uid := range []uint32{0, 1000} {
		spec := specFor(root, "sh", "-c", "grep -E '^(CapPrm|CapEff|CapBnd|Seccomp|NoNewPrivs):' /proc/self/status; mkdir /tmp/x 2>/dev/null || echo denied")
		spec.Process.NoNewPrivileges = false
		spec.Process.User.UID = uid
		got := run(t, spec, Inputs{Filter: denying(unix.SYS_MKDIRAT, 83 /* mkdir on amd64 */)})
		caps := "00000000a80425fb"
		prm := caps
		if uid != 0 {
			prm = "0000000000000000"
		}
		want := "CapPrm:\t" + prm + "\nCapEff:\t" + prm + "\nCapBnd:\t" + caps + "\nNoNewPrivs:\t0\nSeccomp:\t2\ndenied\n"
		if got.err != nil || got.out != want {
			t.Errorf("uid %d: %v, got\n%swant\n%s", uid, got.err, got.out, want)
		}
	}
}

// denying is a filter under which the calls fail with EPERM.
func denying(calls ...int) (b []byte) {
	ins := func(code uint16, jt, jf byte, k uint32) {
		b = append(b, byte(code), byte(code>>8), jt, jf, byte(k), byte(k>>8), byte(k>>16), byte(k>>24))
	}
	ins(0x20, 0, 0, 0) // load the number
	for i, c := range calls {
		ins(0x15, byte(len(calls)-i), 0, uint32(c))
	}
	ins(0x06, 0, 0, 0x7fff0000)
	ins(0x06, 0, 0, 0x00050000|uint32(unix.EPERM))
	return b
}
