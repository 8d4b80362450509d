package profile

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/seccomp"
)

var docker = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}

func TestDefaultFollowsCapabilities(t *testing.T) {
	names := func(capabilities []string) []string {
		p, err := Default(capabilities)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range p.Syscalls {
			if s.Action == specs.ActAllow && len(s.Args) == 0 {
				names = append(names, s.Names...)
			}
		}
		return names
	}
	usual, admin := names(docker), names(append(slices.Clone(docker), "CAP_SYS_ADMIN"))
	if slices.Contains(usual, "mount") || slices.Contains(usual, "clone3") || !slices.Contains(usual, "chroot") {
		t.Error("the default profile does not fit Docker's capabilities")
	}
	if !slices.Contains(admin, "mount") || !slices.Contains(admin, "clone3") {
		t.Error("CAP_SYS_ADMIN does not allow mount and clone3")
	}
}

func TestParse(t *testing.T) {
	p, err := Parse([]byte(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
		{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
		{"name": "sync", "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}`), []string{"CAP_SYS_ADMIN"})
	if err != nil || len(p.Syscalls) != 1 || *p.Syscalls[0].ErrnoRet != 13 {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := Parse([]byte(`{}`), nil); p != nil || err != nil {
		t.Errorf("an empty profile: %v, %v", p, err)
	}
	for _, bad := range []string{"", "{", `[]`, `{"syscalls": "x"}`, `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"]}]}`, `{"defaultAction": "x", "architectures": ["a"], "archMap": [{"architecture": "b"}]}`} {
		if p, err := Parse([]byte(bad), nil); err == nil {
			t.Errorf("%s was taken as %+v", bad, p)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]}]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		if p, err := Parse(document, nil); err == nil && p != nil {
			_, _ = seccomp.Compile(p, "amd64")
		}
	})
}

// call is a system call that a filtered process makes.
type call struct {
	What string
	NR   uintptr
	Args [6]uintptr
}

// TestInTheKernel loads the compiled default profile in a process of its own and compares what calls answer.
func TestInTheKernel(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers below are amd64's")
	}
	const never = 0x7fffffff // no such descriptor, no such address: what passes the filter fails in the kernel
	table := []struct {
		call
		want unix.Errno
	}{
		{call{"getppid", unix.SYS_GETPPID, [6]uintptr{}}, 0},
		{call{"read", unix.SYS_READ, [6]uintptr{never}}, unix.EBADF},
		{call{"mount", unix.SYS_MOUNT, [6]uintptr{}}, unix.EPERM},
		{call{"unshare", unix.SYS_UNSHARE, [6]uintptr{0}}, unix.EPERM},
		{call{"clone of a user namespace", unix.SYS_CLONE, [6]uintptr{unix.CLONE_NEWUSER | unix.CLONE_SIGHAND}}, unix.EPERM},
		{call{"clone that the kernel refuses", unix.SYS_CLONE, [6]uintptr{unix.CLONE_SIGHAND}}, unix.EINVAL},
		{call{"clone3", unix.SYS_CLONE3, [6]uintptr{}}, unix.ENOSYS},
		{call{"socket AF_UNIX of no type", unix.SYS_SOCKET, [6]uintptr{unix.AF_UNIX, 77}}, unix.EINVAL},
		{call{"socket AF_INET6 of no type", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET6, 77}}, unix.EINVAL},
		{call{"socket AF_VSOCK", unix.SYS_SOCKET, [6]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}}, unix.EPERM},
		{call{"socket AF_ALG", unix.SYS_SOCKET, [6]uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET}}, unix.EPERM},
		{call{"socket of a domain with an upper half", unix.SYS_SOCKET, [6]uintptr{1<<32 | unix.AF_INET, 77}}, unix.EPERM},
		{call{"personality, asked", unix.SYS_PERSONALITY, [6]uintptr{0xffffffff}}, 0},
		{call{"personality UNAME26", unix.SYS_PERSONALITY, [6]uintptr{0x20000}}, 0},
		{call{"personality READ_IMPLIES_EXEC", unix.SYS_PERSONALITY, [6]uintptr{0x400000}}, unix.EPERM},
		{call{"keyctl", unix.SYS_KEYCTL, [6]uintptr{}}, unix.EPERM},
		{call{"bpf", unix.SYS_BPF, [6]uintptr{}}, unix.EPERM},
		{call{"ptrace", unix.SYS_PTRACE, [6]uintptr{unix.PTRACE_DETACH, never}}, unix.ESRCH},
		{call{"a call that nobody knows", 1000, [6]uintptr{}}, unix.ENOSYS},
		{call{"x32 getppid", 0x40000000 | unix.SYS_GETPPID, [6]uintptr{}}, ^unix.Errno(0)},
	}
	var calls []call
	for _, row := range table {
		calls = append(calls, row.call)
	}
	got := inFilter(t, calls)
	for i, row := range table {
		if row.want != ^unix.Errno(0) && got[i] != row.want {
			t.Errorf("%s: %v, want %v", row.What, got[i], row.want)
		}
	}
}

// inFilter makes the calls in another process, under the default profile.
func inFilter(t *testing.T, calls []call) []unix.Errno {
	t.Helper()
	in, err := json.Marshal(calls)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FILTERED_CALLS="+string(in))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the filtered process: %v: %s", err, out)
	}
	var got []unix.Errno
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return got
}

func TestMain(m *testing.M) {
	if in := os.Getenv("FILTERED_CALLS"); in != "" {
		if err := filtered(in); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func filtered(in string) error {
	var calls []call
	if err := json.NewDecoder(strings.NewReader(in)).Decode(&calls); err != nil {
		return err
	}
	profile, err := Default(docker)
	if err != nil {
		return err
	}
	program, err := seccomp.Compile(profile, runtime.GOARCH)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := load(program); err != nil {
		return err
	}
	got := make([]unix.Errno, len(calls))
	for i, c := range calls {
		_, _, got[i] = unix.RawSyscall6(c.NR, c.Args[0], c.Args[1], c.Args[2], c.Args[3], c.Args[4], c.Args[5])
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

func BenchmarkCompileDefault(b *testing.B) {
	p, err := Default(docker)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c, err := seccomp.Compile(p, "amd64")
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(c.BPF)/8), "instructions")
	}
}
