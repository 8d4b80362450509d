package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestStories runs the files of testdata. In a story, berth and docker speak to the shared engine; $BASE
// is an image, $REGISTRY a registry, $REGISTRY_DATA its directory, $N a number that no other story has, for names.
// A story with an engine of its own has its roots in $DATA and $EXEC, and its containers' cgroup in $CGROUP.
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Setup:               setup,
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"eventually": cmdEventually,
			"status":     cmdStatus,
			"engine":     cmdEngine,
			"capture":    cmdCapture,
			"breakdisk":  cmdBreakDisk,
			"disk":       cmdDisk,
			"flip":       cmdFlip,
			"guard":      cmdGuard,
			"manyfiles":  cmdManyFiles,
			"resident":   cmdResident,
			"tar":        cmdTar,
		},
	})
}

var stories atomic.Int64

// ownKey is where a story's own engine is kept.
const ownKey = "own engine"

func setup(env *testscript.Env) error {
	docker, err := exec.LookPath("docker")
	if err != nil {
		docker = "docker: not found" // the story about it fails, and says so
	}
	env.Setenv("PATH", strings.Join([]string{world.bin, filepath.Dir(docker), "/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}, ":"))
	env.Setenv("BERTH_HOST", world.main.host())
	env.Setenv("DOCKER_HOST", world.main.host())
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("DOCKER_CONFIG", filepath.Join(env.WorkDir, ".docker"))
	env.Values[ownKey] = &own{}
	env.Setenv("BASE", baseName)
	env.Setenv("REGISTRY", world.registry)
	env.Setenv("REGISTRY_DATA", filepath.Join(world.dir, "registry"))
	env.Setenv("N", strconv.FormatInt(stories.Add(1), 10))
	env.Setenv("DATA", filepath.Join(world.main.dir, "data"))
	return nil
}

// cmdEventually runs a command until it succeeds: eventually CMD ARGS…
func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	err := eventually(func() error {
		err := ts.Exec(args[0], args[1:]...)
		if neg {
			if err == nil {
				return errors.New("it still succeeds")
			}
			return nil
		}
		return err
	})
	if err != nil {
		ts.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
}

// cmdStatus runs a command that must exit with a status: status N CMD ARGS…
func cmdStatus(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s: exit status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// cmdCapture puts a command's output into a variable: capture NAME CMD ARGS…
func cmdCapture(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec(args[1], args[2:]...))
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// own is the engine that a story has for itself.
type own struct{ *daemon }

// ownDir is where the story's own engine lives.
func ownDir(ts *testscript.TestScript) string { return filepath.Join(world.dir, "own-"+ts.Getenv("N")) }

// cmdEngine gives a story an engine of its own: engine start [FLAGS…], engine kill, engine restart
// [FLAGS…], engine stop. BERTH_HOST and DOCKER_HOST then mean that one.
func cmdEngine(ts *testscript.TestScript, _ bool, args []string) {
	mine := ts.Value(ownKey).(*own)
	switch args[0] {
	case "start", "restart":
		d, err := startDaemon(ownDir(ts), args[1:]...)
		ts.Check(err)
		mine.daemon = d
		ts.Setenv("BERTH_HOST", d.host())
		ts.Setenv("DOCKER_HOST", d.host())
		ts.Setenv("DATA", filepath.Join(d.dir, "data"))
		ts.Setenv("EXEC", filepath.Join(d.dir, "exec"))
		ts.Setenv("CGROUP", cgroupPrefix()+filepath.Base(d.dir))
		if args[0] == "start" {
			ts.Defer(func() {
				if err := mine.stop(); err != nil {
					ts.Logf("stop the story's engine: %v", err)
				}
			})
			_, err := d.berth("import", "--change", `CMD ["sh"]`, "--change", "ENV PATH=/bin:/usr/bin", filepath.Join(world.dir, "busybox.tar"), baseName)
			ts.Check(err)
		}
	case "kill":
		ts.Check(mine.kill())
	case "stop":
		ts.Check(mine.signal(syscall.SIGTERM))
	default:
		ts.Fatalf("engine %s: not known", args[0])
	}
}
