package runtime_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime"
)

// TestShimLostInStart: a start whose shim goes away without a word says so.
func TestShimLostInStart(t *testing.T) {
	b := newBench(t)
	if err := b.launcher.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.launcher, err = runtime.New(t.Context(), runtime.Options{Program: "/bin/true", ExecRoot: b.dir, CgroupParent: b.parent}); err != nil {
		t.Fatal(err)
	}
	cfg := b.config("/bin/echo")
	for _, size := range []int{0, 1 << 20} { // the second is more than a socket takes at once
		cfg.Spec.Process.Env = []string{"A=" + strings.Repeat("x", size)}
		if _, err := b.launcher.Start(t.Context(), cfg); !errors.Is(err, runtime.ErrLost) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// TestSlotLostBeforeRoot: a shim that is killed before it has taken the root is no loss, and what is wrong with the
// container is said all the same.
func TestSlotLostBeforeRoot(t *testing.T) {
	t.Run("warm/lost", func(t *testing.T) {
		b := newBench(t)
		for command, says := range map[string]string{"/bin/true": "", "/nothing": `exec: "/nothing": stat /nothing: no such file or directory`} {
			cfg := b.config(command)
			shims := shimsOf(cfg.ID)
			for _, shim := range shims {
				stop(b, pidOf(shim))
			}
			done := begin(b, cfg)
			b.until("the slot is taken", func() bool {
				_, err := os.Stat(filepath.Join(cfg.Dir, "shim.log"))
				return err == nil
			})
			kill(b, shims)
			if err := <-done; err == nil && says != "" || err != nil && err.Error() != says {
				t.Errorf("%s: %v", command, err)
			}
		}
	})
}

// TestSlotLostWithRoot: a shim that is killed when its child has taken the root is what the start failed at. The command
// may have run, and is not run again.
func TestSlotLostWithRoot(t *testing.T) {
	t.Run("warm/lost", func(t *testing.T) {
		b := newBench(t)
		cfg := b.config("/bin/true")
		execution := holdExecution(b, filepath.Join(b.tree, "bin/busybox"))
		done := begin(b, cfg)
		release := execution()
		kill(b, shimsOf(cfg.ID))
		release()
		if err := <-done; !errors.Is(err, runtime.ErrLost) {
			t.Errorf("%v", err)
		}
	})
}

// begin starts a container, which is destroyed at the end of the test.
func begin(b *bench, cfg runtime.Config) <-chan error {
	done := make(chan error, 1)
	go func() {
		s, err := b.launcher.Start(b.t.Context(), cfg)
		if err == nil {
			err = s.Close()
		}
		done <- err
	}()
	b.t.Cleanup(func() { b.destroy(cfg) })
	return done
}

// kill kills the processes of those /proc/PID/cmdline.
func kill(b *bench, cmdlines []string) {
	b.t.Helper()
	if len(cmdlines) == 0 {
		b.t.Fatal("there is no shim")
	}
	for _, path := range cmdlines {
		if err := syscall.Kill(pidOf(path), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) { // one dies with the other
			b.t.Fatal(err)
		}
	}
}

// pidOf is the PID of a /proc/PID/cmdline.
func pidOf(cmdline string) int { return atoi(filepath.Base(filepath.Dir(cmdline))) }

// holdExecution has whoever executes the program wait. wait returns when somebody does, and release lets it go on.
func holdExecution(b *bench, program string) (wait func() (release func())) {
	b.t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if err == nil {
		err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, program)
	}
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		b.t.Skip("needs a kernel whose fanotify asks for permissions")
	}
	if err != nil {
		b.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "fanotify")
	b.t.Cleanup(func() { f.Close() })
	return func() func() {
		b.t.Helper()
		var event unix.FanotifyEventMetadata
		buf := make([]byte, binary.Size(event))
		err := f.SetReadDeadline(time.Now().Add(time.Minute))
		if err == nil {
			_, err = f.Read(buf)
		}
		if err == nil {
			_, err = binary.Decode(buf, binary.NativeEndian, &event)
		}
		if err != nil {
			b.t.Fatal(err)
		}
		return func() { _ = errors.Join(unix.Close(int(event.Fd)), f.Close()) } // the end of the group lets everybody go on
	}
}
