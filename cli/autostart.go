package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// listening tells whether an engine takes connections at the default socket.
func listening() bool {
	conn, err := net.Dial("unix", strings.TrimPrefix(DefaultHost, "unix://"))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// findEngine looks beside this program, then in PATH.
func findEngine() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "berthd")
		if info, err := os.Stat(beside); err == nil && info.Mode()&0o111 != 0 && !info.IsDir() {
			return beside, nil
		}
	}
	program, err := exec.LookPath("berthd")
	if err != nil {
		return "", errors.New("no engine runs, and berthd is neither beside this program nor in PATH: install it, or name an engine with -H")
	}
	return program, nil
}

// engineLog is where an engine that was started in the background writes.
const engineLog = "/run/berth/berthd.log"

// startWait is how long a new engine may take until it listens.
const startWait = 30 * time.Second

// startEngine starts berthd in the background, in a session of its own, without this one's terminal and
// directory, and waits until it listens: `berth run` works on a machine where nothing was set up. The
// engine leaves the caller's cgroup by itself.
func startEngine(ctx context.Context) error {
	program, err := findEngine()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(engineLog), 0o711); err != nil {
		return fmt.Errorf("no engine runs, and none can be started: %w", err)
	}
	log, err := os.OpenFile(engineLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("no engine runs, and none can be started: %w", err)
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	cmd := exec.Command(program)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("no engine runs, and %s could not be started: %w", program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.NewTimer(startWait)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if listening() {
				return nil
			}
		case err := <-ended:
			// Another one may have been faster: then ours ended because of its lock.
			if listening() {
				return nil
			}
			return fmt.Errorf("no engine runs, and %s ended at once (%w): %s", program, err, lastLine(begin))
		case <-deadline.C:
			return fmt.Errorf("%s was started but does not listen at %s after %s: its log is %s", program, DefaultHost, startWait, engineLog)
		}
	}
}

// lastLine is the last thing that the engine wrote behind begin.
func lastLine(begin int64) string {
	f, err := os.Open(engineLog)
	if err != nil {
		return "its log is " + engineLog
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, begin, 1<<20))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if last := lines[len(lines)-1]; err == nil && last != "" {
		return last + " (log: " + engineLog + ")"
	}
	return "its log is " + engineLog
}
