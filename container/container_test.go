package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-engine/berth/internal/atomicfile"
)

func fixture(t *testing.T, autoRemove bool) (*Store, *Container) {
	t.Helper()
	dir := t.TempDir()
	s, err := OpenStore(filepath.Join(dir, "data"), filepath.Join(dir, "exec"))
	if err != nil {
		t.Fatal(err)
	}
	c := New(s, Record{ID: NewID(), Name: "x", Config: Config{AutoRemove: autoRemove}, State: State{Status: Created}})
	if err := s.Make(c.ID); err != nil {
		t.Fatal(err)
	}
	r := c.Record()
	if err := s.Save(&r, atomicfile.Durable); err != nil {
		t.Fatal(err)
	}
	return s, c
}

func TestWaiters(t *testing.T) {
	_, c := fixture(t, false)
	now, _ := c.Wait(NotRunning)
	if e := <-now; e.ExitCode != 0 {
		t.Errorf("not running from the start: %+v", e)
	}
	next, _ := c.Wait(NextExit)
	removed, _ := c.Wait(Removed)
	gone, cancel := c.Wait(NextExit)
	cancel()
	set := func(status Status, code int) {
		t.Helper()
		if err := c.Update(atomicfile.Volatile, func(s *State) { s.Status, s.ExitCode = status, code }); err != nil {
			t.Fatal(err)
		}
	}
	set(Running, 0)
	running, _ := c.Wait(NotRunning)
	set(Restarting, 3)
	if e := <-next; e.ExitCode != 3 {
		t.Errorf("next exit: %+v", e)
	}
	select {
	case e := <-running:
		t.Errorf("a restarting container counted as not running: %+v", e)
	case e := <-gone:
		t.Errorf("a cancelled wait was answered: %+v", e)
	default:
	}
	set(Exited, 4)
	if e := <-running; e.ExitCode != 4 {
		t.Errorf("not running: %+v", e)
	}
	c.Gone()
	if e := <-removed; e.ExitCode != 4 {
		t.Errorf("removed: %+v", e)
	}
	never, _ := c.Wait(Removed)
	set(Removing, 4)
	set(Dead, 4)
	if e := <-never; e.ExitCode != 4 {
		t.Errorf("could not be removed: %+v", e)
	}
}

func TestClaim(t *testing.T) {
	_, c := fixture(t, false)
	release, err := c.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reason := errors.New("client went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if _, err := c.Claim(ctx); !errors.Is(err, reason) {
		t.Errorf("claimed twice: %v", err)
	}
	release()
	if _, err := c.Claim(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStore(t *testing.T) {
	for _, autoRemove := range []bool{false, true} {
		s, c := fixture(t, autoRemove)
		stray := NewID()
		if err := s.Make(stray); err != nil {
			t.Fatal(err)
		}
		records, strays, err := s.Load()
		if err != nil || len(records) != 1 || records[0].ID != c.ID || len(strays) != 1 || strays[0] != stray {
			t.Errorf("%v: %v %v %v", autoRemove, records, strays, err)
		}
		path := s.path(records[0])
		if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		if records, strays, err := s.Load(); !errors.Is(err, atomicfile.ErrDamaged) || len(records) != 0 || len(strays) != 1 {
			t.Errorf("damaged: %v %v %v", records, strays, err)
		}
		for _, id := range []string{c.ID, stray, stray} {
			if err := s.Destroy(id); err != nil {
				t.Error(err)
			}
		}
		if records, strays, err := s.Load(); len(records)+len(strays) > 0 || err != nil {
			t.Errorf("left: %v %v %v", records, strays, err)
		}
	}
}

// TestMakeClaims: what an ID has already is not touched by who could not claim it.
func TestMakeClaims(t *testing.T) {
	s, c := fixture(t, true)
	if err := s.Make(c.ID); !errors.Is(err, os.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	if err := os.Remove(s.DataDir(c.ID)); err != nil { // only its exec directory is there
		t.Fatal(err)
	}
	if err := s.Make(c.ID); !errors.Is(err, os.ErrExist) {
		t.Errorf("made half: %v", err)
	}
	if _, err := os.Stat(s.DataDir(c.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a half of it was left: %v", err)
	}
	if records, _, err := s.Load(); len(records) != 1 || err != nil {
		t.Errorf("the record of the one that was there: %v %v", records, err)
	}
}

func TestRestart(t *testing.T) {
	for name, c := range map[string]struct {
		policy    RestartPolicy
		state     State
		ran, last time.Duration
		delay     time.Duration
		again     bool
	}{
		"no":               {RestartPolicy{}, State{ExitCode: 1}, 0, 0, 0, false},
		"always":           {RestartPolicy{Name: "always"}, State{}, 0, 0, firstDelay, true},
		"doubles":          {RestartPolicy{Name: "always"}, State{}, time.Second, firstDelay, 2 * firstDelay, true},
		"at most a minute": {RestartPolicy{Name: "always"}, State{}, time.Second, 50 * time.Second, time.Minute, true},
		"begins anew":      {RestartPolicy{Name: "always"}, State{}, goodRun, time.Minute, firstDelay, true},
		"stopped":          {RestartPolicy{Name: "always"}, State{StoppedByUser: true}, 0, 0, 0, false},
		"success":          {RestartPolicy{Name: "on-failure"}, State{}, 0, 0, 0, false},
		"failure":          {RestartPolicy{Name: "on-failure", MaxRetries: 2}, State{ExitCode: 1, RestartCount: 1}, 0, 0, firstDelay, true},
		"tries used up":    {RestartPolicy{Name: "on-failure", MaxRetries: 2}, State{ExitCode: 1, RestartCount: 2}, 0, 0, 0, false},
	} {
		if delay, again := c.policy.Next(c.state, c.ran, c.last); delay != c.delay || again != c.again {
			t.Errorf("%s: %v %v", name, delay, again)
		}
	}
	for _, p := range []RestartPolicy{{Name: "sometimes"}, {Name: "always", MaxRetries: 1}, {Name: "on-failure", MaxRetries: -1}} {
		if p.Check() == nil {
			t.Errorf("%+v was accepted", p)
		}
	}
}

func TestHealth(t *testing.T) {
	h := &Healthcheck{Test: []string{"CMD-SHELL", "true"}, Retries: 2, StartPeriod: time.Minute}
	state := Health{Status: Starting}
	for i, step := range []struct {
		code  int
		since time.Duration
		want  string
	}{{1, time.Second, Starting}, {1, 2 * time.Minute, Starting}, {1, 2 * time.Minute, Unhealthy}, {0, 3 * time.Minute, Healthy}, {-1, 4 * time.Minute, Healthy}, {1, 4 * time.Minute, Unhealthy}} {
		state = h.After(state, Probe{ExitCode: step.code}, step.since)
		if state.Status != step.want {
			t.Errorf("step %d: %+v", i, state)
		}
	}
	if len(state.Log) != probesKept {
		t.Errorf("%d probes kept", len(state.Log))
	}
	if got := h.Command(nil); len(got) != 3 || got[0] != "/bin/sh" {
		t.Error(got)
	}
}

func TestNames(t *testing.T) {
	for i := range 20 {
		if err := CheckName(RandomName(i)); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "a", "-a", "a b", "a/b", "../x"} {
		if CheckName(name) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}
