package runtime_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestScoreForRunningOutOfMemory: what the container has it for is its own; its shim, which may have played its start
// in one memory with it, keeps what the engine gave it.
func TestScoreForRunningOutOfMemory(t *testing.T) {
	before := scoreOf(t, os.Getpid())
	for _, how := range []string{"cold", "warm"} {
		t.Run(how+"/score", func(t *testing.T) {
			const engines = "100" // higher than any before: it can be taken back
			setScore(t, engines)
			defer setScore(t, before)
			b := newBench(t)
			for _, asked := range []int{512, 0} {
				cfg := b.config("/bin/sleep", "1000")
				cfg.Spec.Process.OOMScoreAdj = &asked
				c := b.start(cfg)
				if got, want := scoreOf(t, c.Pid()), itoa(asked); got != want {
					t.Errorf("the container has %s, want %s", got, want)
				}
				if got := scoreOf(t, c.shimPid()); got != engines {
					t.Errorf("the shim of one with %d has %s, want %s", asked, got, engines)
				}
			}
		})
	}
}

func scoreOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "oom_score_adj"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func setScore(t *testing.T, score string) {
	t.Helper()
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(score), 0); err != nil {
		t.Fatal(err)
	}
}
