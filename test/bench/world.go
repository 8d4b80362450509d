package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	baseName    = "busybox:bench"
	steps       = 20  // of the Dockerfile, FROM not counted
	changedFile = "6" // of the build context: the step that copies it is the eleventh
	patience    = time.Minute
)

// world is what the benchmark runs in: a directory, a registry, an engine, bundles.
type world struct {
	bin, dir string
	registry string // host:port
	env      []string
	stops    []func() error // in the order of starting
}

// runtime is one that runs a bundle, with its state in the benchmark's directory.
type runtime struct{ name, command string }

// open makes the world. What it returns is to be closed, also after an error.
func open(ctx context.Context, bin string) (*world, error) {
	w := &world{}
	var err error
	if w.bin, err = filepath.Abs(bin); err != nil {
		return w, err
	}
	if w.dir, err = os.MkdirTemp("/var/tmp", "berth-bench-"); err != nil {
		return w, err
	}
	if err := os.Chmod(w.dir, 0o711); err != nil {
		return w, err
	}
	// what lives in /run on a real machine; the mount is in a namespace of the benchmark's own, and ends with it
	if err := os.Mkdir(w.path("run"), 0o711); err != nil {
		return w, err
	}
	if err := unix.Mount("tmpfs", w.path("run"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=711"); err != nil {
		return w, fmt.Errorf("mount a tmpfs on %s: %w", w.path("run"), err)
	}
	w.stops = append(w.stops, func() error { return unix.Unmount(w.path("run"), unix.MNT_DETACH) })
	w.env = append(os.Environ(), "BERTH_HOST="+w.host(), "DOCKER_CONFIG="+w.path("config"))
	if err := os.Mkdir(w.path("config"), 0o700); err != nil {
		return w, err
	}
	if err := os.WriteFile(w.path("config/config.json"), []byte("{}\n"), 0o600); err != nil {
		return w, err
	}
	base := w.path("base.tar")
	if err := w.run(ctx, "test/images/busybox.sh "+base); err != nil {
		return w, err
	}
	if err := w.bundles(ctx, base); err != nil {
		return w, err
	}
	if err := w.startRegistry(ctx); err != nil {
		return w, err
	}
	if err := w.startEngine(ctx); err != nil {
		return w, err
	}
	return w, w.run(ctx, w.berth("import "+base+" "+baseName))
}

// close ends what was started, the last first, and removes the directory.
func (w *world) close() error {
	var errs []error
	for i := len(w.stops) - 1; i >= 0; i-- {
		errs = append(errs, w.stops[i]())
	}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

func (w *world) path(name string) string  { return filepath.Join(w.dir, name) }
func (w *world) host() string             { return "unix://" + w.path("berth.sock") }
func (w *world) berth(args string) string { return filepath.Join(w.bin, "berth") + " " + args }
func (w *world) cgroup() string           { return "/" + filepath.Base(w.dir) }

// runtimes are crun, runc and ours.
func (w *world) runtimes() []runtime {
	return []runtime{
		{"crun", "crun --root " + w.path("run/crun")},
		{"runc", "runc --root " + w.path("run/runc")},
		{"berth-runtime", filepath.Join(w.bin, "berth-runtime") + " --root " + w.path("run/runtime")},
	}
}

// run runs a line of words that hold no spaces.
func (w *world) run(ctx context.Context, line string) error {
	_, err := w.output(ctx, line)
	return err
}

// output runs a line and returns what it printed, without the space around. What stays behind of the
// line (a detached container) does not hold it up: its output goes to a file.
func (w *world) output(ctx context.Context, line string) (string, error) {
	words := strings.Fields(line)
	out, err := os.CreateTemp(w.dir, "output-")
	if err != nil {
		return "", err
	}
	defer out.Close()
	defer os.Remove(out.Name())
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = w.env, out, out
	failed := cmd.Run()
	b, err := os.ReadFile(out.Name())
	if err != nil {
		return "", err
	}
	said := strings.TrimSpace(string(b))
	if failed != nil {
		return said, fmt.Errorf("%s: %w: %s", line, failed, said)
	}
	return said, nil
}

// bundles writes two OCI bundles with crun's own configuration, an empty network namespace included:
// one runs true, the other sleeps.
func (w *world) bundles(ctx context.Context, base string) error {
	root := w.path("rootfs")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := w.run(ctx, "tar -C "+root+" -xpf "+base); err != nil {
		return err
	}
	for name, args := range map[string][]string{"bundle": {"true"}, "sleeper": {"sleep", "1000000"}} {
		dir := w.path(name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := w.run(ctx, "env -C "+dir+" crun spec"); err != nil {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, "config.json"))
		if err != nil {
			return err
		}
		var config map[string]any
		if err := json.Unmarshal(b, &config); err != nil {
			return err
		}
		process, ok := config["process"].(map[string]any)
		if !ok {
			return errors.New("crun's configuration has no process")
		}
		process["args"], process["terminal"] = args, false
		config["root"] = map[string]any{"path": root, "readonly": true}
		if b, err = json.Marshal(config); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// deleteContainer removes one of a runtime's, also when ctx has ended.
func (w *world) deleteContainer(ctx context.Context, runtime, id string) {
	if err := w.run(context.WithoutCancel(ctx), runtime+" delete --force "+id); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// startRegistry starts Debian's docker-registry on a free port of loopback.
func (w *world) startRegistry(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.registry = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", w.path("registry"), w.registry)
	if err := os.WriteFile(w.path("registry.yml"), []byte(config), 0o600); err != nil {
		return err
	}
	return w.start(ctx, "tcp", w.registry, nil, "docker-registry", "serve", w.path("registry.yml"))
}

// startEngine starts an engine in the benchmark's directory; before it is ended everything in it is removed.
func (w *world) startEngine(ctx context.Context) error {
	wipe := func() error {
		ctx := context.WithoutCancel(ctx)
		ids, err := w.output(ctx, w.berth("ps -aq"))
		if err == nil && ids != "" {
			err = w.run(ctx, w.berth("rm -fv "+ids))
		}
		return errors.Join(err, w.run(ctx, w.berth("system prune -af --volumes")))
	}
	return w.start(ctx, "unix", w.path("berth.sock"), wipe, filepath.Join(w.bin, "berthd"),
		"--data-root", w.path("data"), "--exec-root", w.path("run/berth"), "-H", w.host(), "--cgroup-parent", w.cgroup())
}

// start starts a server and waits until it answers.
func (w *world) start(ctx context.Context, network, address string, before func() error, name string, args ...string) error {
	logName := w.path(filepath.Base(name) + ".log")
	log, err := os.Create(logName)
	if err != nil {
		return err
	}
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = w.env, log, log
	// An interrupt at the terminal is for the benchmark, which ends its servers in order.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	w.stops = append(w.stops, func() error {
		var err error
		if before != nil {
			err = before()
		}
		return errors.Join(err, end(cmd, ended))
	})
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if c, err := net.Dial(network, address); err == nil {
			return c.Close()
		}
		select {
		case err := <-ended:
			ended <- err
			said, _ := os.ReadFile(logName)
			return fmt.Errorf("%s ended: %w: %s", name, err, said)
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", name, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// end asks a server that this program started to end, and waits for it. The process knows by itself
// whether it is still there: no pid is signalled that may be another's by now.
func end(cmd *exec.Cmd, ended <-chan error) error {
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-ended:
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) { // it was stopped by a signal, and says so
			return nil
		}
		return err
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("%s did not end", cmd.Path), cmd.Process.Kill())
	}
}

// writeContext writes a build context: ten files, and a Dockerfile that copies each and runs something.
func writeContext(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	var dockerfile bytes.Buffer
	fmt.Fprintf(&dockerfile, "FROM %s\n", baseName)
	for i := 1; i <= steps/2; i++ {
		fmt.Fprintf(&dockerfile, "COPY %d /work/%d\nRUN cat /work/%d > /work/made-%d\n", i, i, i, i)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte(strings.Repeat(fmt.Sprintln("line", i), 1000)), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), dockerfile.Bytes(), 0o600)
}

// checkCached builds after a preparation and counts the steps that came from the cache: a figure for a
// cold build says nothing when it was not cold.
func (w *world) checkCached(ctx context.Context, dir, prepare string, want int) error {
	if err := w.run(ctx, prepare); err != nil {
		return err
	}
	said, err := w.output(ctx, w.berth("build --progress plain -t steps:bench "+dir))
	if err != nil {
		return err
	}
	if got := strings.Count(said, " CACHED"); got != want {
		return fmt.Errorf("%d steps came from the cache after %s, not %d:\n%s", got, prepare, want, said)
	}
	return nil
}

// pushLarge makes an image of about 500 MB and pushes it; the engine keeps it.
func (w *world) pushLarge(ctx context.Context, name string) error {
	file := w.path("large.tar")
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer os.Remove(file)
	if err := errors.Join(writeLarge(f, w.path("rootfs/bin/busybox")), f.Close()); err != nil {
		return err
	}
	if err := w.run(ctx, w.berth("import "+file+" "+name)); err != nil {
		return err
	}
	return w.run(ctx, w.berth("push -q "+name))
}

// writeLarge writes a root file system as a tar: busybox, and two thousand files of 256 KB, every other
// of noise, which nothing compresses, the rest of words, which are a quarter when compressed. The bytes
// are the same each time.
func writeLarge(to io.Writer, busybox string) error {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	t := tar.NewWriter(to)
	file := func(name string, mode int64, b []byte) error {
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(b))})
		if err != nil {
			return err
		}
		_, err = t.Write(b)
		return err
	}
	for _, dir := range []string{"bin/", "data/", "dev/", "etc/", "proc/", "sys/", "tmp/"} {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	for _, name := range []string{"bin/sh", "bin/test", "bin/true"} {
		if err := file(name, 0o755, program); err != nil {
			return err
		}
	}
	noise := rand.NewChaCha8([32]byte{1})
	random := rand.New(noise)
	words := strings.Fields("layer image container engine registry network volume mount process namespace kernel cgroup digest tar file entry")
	content := make([]byte, 256<<10)
	for i := range 2000 {
		if i%2 == 0 {
			if _, err := noise.Read(content); err != nil {
				return err
			}
		} else {
			for at := 0; at < len(content); {
				at += copy(content[at:], words[random.IntN(len(words))])
				if at < len(content) {
					content[at] = ' '
					at++
				}
			}
		}
		if err := file(fmt.Sprintf("data/%d", i), 0o644, content); err != nil {
			return err
		}
	}
	return t.Close()
}
