package relay_test

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-engine/berth/runtime/relay"
	"golang.org/x/sys/unix"
)

// The program under test is this one, started again: signals belong to a whole program.
const inside = "RELAY_TEST_INSIDE"

func TestMain(m *testing.M) {
	switch os.Getenv(inside) {
	case "1":
		os.Exit(relayed())
	case "ignored":
		os.Exit(stillIgnored())
	}
	os.Exit(m.Run())
}

// relayed has a signal sent to itself before there is anybody to have it, and one after.
func relayed() int {
	if err := relay.Catch(unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM, unix.SIGHUP); err != nil {
		return 1
	}
	if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
		return 2
	}
	c := exec.Command("sh", "-c", `trap 'echo USR1' USR1; trap 'echo USR2' USR2; trap 'echo TERM; exit 7' TERM; echo ready; while :; do sleep 0.01; done`)
	out, err := c.StdoutPipe()
	if err != nil {
		return 3
	}
	if err := c.Start(); err != nil {
		return 4
	}
	lines := bufio.NewScanner(out)
	next := func(want string) bool { return lines.Scan() && lines.Text() == want }
	if !next("ready") {
		return 5
	}
	fd, err := unix.PidfdOpen(c.Process.Pid, 0)
	if err != nil {
		return 6
	}
	relay.To(fd)
	for _, s := range []struct {
		send unix.Signal
		want string
	}{{0, "USR1"}, {unix.SIGUSR2, "USR2"}, {unix.SIGTERM, "TERM"}} {
		if s.send != 0 {
			if err := unix.Kill(os.Getpid(), s.send); err != nil {
				return 7
			}
		}
		if !next(s.want) {
			return 8
		}
	}
	_ = c.Wait() // it says again what its state says
	if c.ProcessState.ExitCode() != 7 {
		return 9
	}
	if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil { // nobody has it: it has ended
		return 10
	}
	return 42
}

func TestSignalsAreHandedOn(t *testing.T) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), inside+"=1")
	out, _ := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); got != 42 {
		t.Errorf("status %d, want 42: %s", got, out)
	}
}

// What nohup ignores is ignored.
func TestIgnoredStaysIgnored(t *testing.T) {
	c := exec.Command("sh", "-c", `trap '' HUP; exec "$0"`, os.Args[0])
	c.Env = append(os.Environ(), inside+"=ignored")
	if out, _ := c.CombinedOutput(); c.ProcessState.ExitCode() != 42 {
		t.Fatalf("%v: %s", c.ProcessState, out)
	}
}

func stillIgnored() int {
	if err := relay.Catch(unix.SIGHUP, unix.SIGTERM); err != nil {
		return 1
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 2
	}
	for line := range strings.Lines(string(b)) {
		v, ok := strings.CutPrefix(line, "SigIgn:")
		if !ok {
			continue
		}
		// whoever started the test may have had others ignored, too
		ignored, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		if err == nil && ignored&(1<<(unix.SIGHUP-1)) != 0 && ignored&(1<<(unix.SIGTERM-1)) == 0 {
			return 42
		}
	}
	return 3
}
