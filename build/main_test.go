package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/solver"
)

// initEnv makes the test program the first process of a step.
const initEnv = "BERTH_BUILD_TEST_STEP"

func TestMain(m *testing.M) {
	if spec := os.Getenv(initEnv); spec != "" {
		if err := stepInit(spec); err != nil {
			fmt.Fprintln(os.Stderr, "step:", err)
			os.Exit(125)
		}
	}
	os.Exit(m.Run())
}

// namespaces is an Executor for tests: the process runs in namespaces of its own, in the root file
// system, with /dev, /proc and the engine's two files, and nothing of a runtime's other work.
type namespaces struct {
	runs atomic.Int64

	mu    sync.Mutex
	seen  []solver.ExecSpec                      // guarded by mu
	pause func(context.Context, solver.ExecSpec) // called before each run; guarded by mu
}

type stepSpec struct {
	Args, Env []string
	Cwd, User string
	Hostname  string
	Hosts     string
	ReadOnly  bool
	Mounts    []string
	Directory []bool
}

func (n *namespaces) Run(ctx context.Context, s solver.ExecSpec, stdout, stderr io.Writer) (int, error) {
	n.runs.Add(1)
	n.mu.Lock()
	n.seen = append(n.seen, s)
	pause := n.pause
	n.mu.Unlock()
	if pause != nil {
		pause(ctx, s)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	spec := stepSpec{Args: s.Args, Env: s.Env, Cwd: s.Cwd, User: s.User, Hostname: s.Hostname, ReadOnly: s.ReadOnly}
	for _, h := range s.ExtraHosts {
		spec.Hosts += h.IP + " " + h.Name + "\n"
	}
	files := []*os.File{s.Rootfs}
	for _, m := range s.Mounts {
		info, err := m.Tree.Stat()
		if err != nil {
			return 0, err
		}
		spec.Mounts = append(spec.Mounts, m.Dest)
		spec.Directory = append(spec.Directory, info.IsDir())
		files = append(files, m.Tree)
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = []string{initEnv + "=" + string(b)}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = stdout, stderr, files
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if s.Network == solver.NetworkNone {
		flags |= unix.CLONE_NEWNET
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		if st := exit.Sys().(syscall.WaitStatus); st.Signaled() {
			return 128 + int(st.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, errors.Join(err, ctx.Err())
}

func stepInit(raw string) error {
	var s stepSpec
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	root := "/tmp" // of a mount namespace that nobody else sees
	if err := unix.MoveMount(3, "", unix.AT_FDCWD, root, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach the root: %w", err)
	}
	if err := unix.Chroot(root); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	for _, err := range []error{
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("tmpfs", "/dev", "tmpfs", 0, ""),
		unix.Mknod("/dev/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Mknod("/dev/zero", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))),
		unix.Sethostname([]byte(s.Hostname)),
		os.WriteFile("/dev/hosts", []byte(s.Hosts), 0o644),
		unix.Mount("/dev/hosts", "/etc/hosts", "", unix.MS_BIND, ""),
		unix.Mount("/dev/hosts", "/etc/resolv.conf", "", unix.MS_BIND, ""),
	} {
		if err != nil {
			return err
		}
	}
	for i, dest := range s.Mounts {
		if err := unix.MoveMount(4+i, "", unix.AT_FDCWD, dest, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("attach %s: %w", dest, err)
		}
	}
	if s.ReadOnly {
		if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(s.Cwd, 0o755); err != nil {
		return err
	}
	if err := os.Chdir(s.Cwd); err != nil {
		return err
	}
	for fd := 3; fd < 4+len(s.Mounts); fd++ {
		unix.CloseOnExec(fd)
	}
	uid, gid := 0, 0
	if s.User != "" {
		u, g, _ := strings.Cut(s.User, ":")
		uid, gid = lookUp("/etc/passwd", u), lookUp("/etc/group", g)
	}
	if err := errors.Join(syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return err
	}
	path := s.Args[0]
	if !strings.Contains(path, "/") {
		for _, e := range s.Env {
			dirs, ok := strings.CutPrefix(e, "PATH=")
			if !ok {
				continue
			}
			for _, d := range filepath.SplitList(dirs) {
				if _, err := os.Stat(filepath.Join(d, path)); err == nil {
					path = filepath.Join(d, path)
					break
				}
			}
		}
	}
	if err := unix.Exec(path, s.Args, s.Env); err != nil {
		fmt.Fprintf(os.Stderr, "exec %s: %v\n", path, err)
		os.Exit(127)
	}
	return nil
}

func lookUp(file, name string) int {
	if n, err := strconv.Atoi(name); err == nil {
		return n
	}
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		f := strings.Split(line, ":")
		if len(f) > 2 && f[0] == name {
			n, _ := strconv.Atoi(f[2])
			return n
		}
	}
	return 0
}
