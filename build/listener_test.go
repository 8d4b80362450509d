package build

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/build/solver"
)

// within fails the test if f does not return; a build that hangs would otherwise say nothing.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s hangs", what)
	}
}

// stopped is a client that stops reading when a RUN begins, until release.
type stopped struct {
	events
	reached, goOn chan struct{}
	stop, release func()
}

func newStopped(t *testing.T) *stopped {
	s := &stopped{reached: make(chan struct{}), goOn: make(chan struct{})}
	s.stop, s.release = sync.OnceFunc(func() { close(s.reached) }), sync.OnceFunc(func() { close(s.goOn) })
	t.Cleanup(s.release)
	return s
}

func (s *stopped) hear(e Event) {
	if e.Kind == solver.Started && strings.Contains(e.Name, "RUN") {
		s.stop()
		<-s.goOn
	}
	s.events.hear(e)
}

var leftOut = regexp.MustCompile(`\n\[(\d+) bytes of output are left out: they were not read in time\]\n`)

// TestClientThatStopsReading: it stops no step, no build that waits for the same step, no other build and
// nothing that asks which layers are in use; and it hears of everything when it goes on.
func TestClientThatStopsReading(t *testing.T) {
	w := newWorld(t)
	const size = maxUnheard + 1<<20
	var joined sync.WaitGroup
	joined.Add(1)
	w.exec.pause = func(_ context.Context, s solver.ExecSpec) {
		if strings.Contains(s.Args[2], "head") {
			joined.Wait()
		}
	}
	src := func(run string) *local {
		return w.local(map[string]string{"Dockerfile": "FROM base\nRUN " + run + "\n"})
	}
	noisy := fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo end", size)

	client := newStopped(t)
	result := make(chan outcome, 1)
	go func() {
		res, err := w.Build(t.Context(), Request{Source: src(noisy), Progress: client.hear})
		result <- outcome{res, err}
	}()
	<-client.reached
	within(t, "a build that waits for the same step", func() {
		once := sync.OnceFunc(joined.Done)
		if _, err := w.Build(t.Context(), Request{Source: src(noisy), Progress: func(e Event) {
			if e.Kind == solver.Started && strings.Contains(e.Name, "RUN") {
				once()
			}
		}}); err != nil {
			t.Error(err)
		}
	})
	within(t, "another build", func() {
		if _, err := w.Build(t.Context(), Request{Source: src("echo other > /f")}); err != nil {
			t.Error(err)
		}
	})
	within(t, "Layers", func() {
		if _, err := w.Layers(t.Context()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-result:
		t.Error("the build returned before its client heard everything")
	default:
	}
	client.release()
	if got := <-result; got.err != nil {
		t.Fatal(got.err)
	}
	if n := w.exec.runs.Load(); n != 2 {
		t.Errorf("%d runs", n)
	}
	log := client.log() // at once: nothing comes after the result
	missing := 0
	for _, m := range leftOut.FindAllStringSubmatch(log, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		missing += n
	}
	if got := len(leftOut.ReplaceAllString(log, "")); missing == 0 || got+missing != size+len("end\n") {
		t.Errorf("%d bytes heard and %d said to be missing of %d", got, missing, size+len("end\n"))
	}
	var kinds []solver.EventKind
	for _, e := range client.all {
		if strings.Contains(e.Name, "RUN") && e.Kind != solver.Log {
			kinds = append(kinds, e.Kind)
		}
	}
	if !slices.Equal(kinds, []solver.EventKind{solver.Started, solver.Done}) {
		t.Errorf("the step's events were %q", kinds)
	}
}

// TestStoppedClientIsCancelled: a build whose client reads nothing can be cancelled all the same.
func TestStoppedClientIsCancelled(t *testing.T) {
	w := newWorld(t)
	w.patience = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	client := newStopped(t)
	result := make(chan outcome, 1)
	w.exec.pause = func(ctx context.Context, _ solver.ExecSpec) { <-ctx.Done() }
	go func() {
		res, err := w.Build(ctx, Request{Source: w.local(map[string]string{"Dockerfile": "FROM base\nRUN true\n"}), Progress: client.hear})
		result <- outcome{res, err}
	}()
	<-client.reached
	cancel()
	within(t, "a cancelled build", func() {
		if got := <-result; got.err == nil {
			t.Error("it was built")
		}
	})
	within(t, "closing the builder", func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestListener: what a listener that hears nothing for a while hears then.
func TestListener(t *testing.T) {
	log := func(v, text string) Event {
		return Event{Kind: solver.Log, Vertex: digest.FromString(v), Stream: 1, Data: []byte(text)}
	}
	state := func(v string, k solver.EventKind) Event { return Event{Kind: k, Vertex: digest.FromString(v), Name: v} }
	status := func(v, name string, n int64) Event {
		return Event{Kind: solver.Status, Vertex: digest.FromString(v), Name: name, Current: n}
	}
	missing := func(n int) string {
		return fmt.Sprintf("\n[%d bytes of output are left out: they were not read in time]\n", n)
	}
	big := strings.Repeat("x", maxUnheard-2*eventCost)
	for name, c := range map[string]struct {
		told []Event
		want []string
	}{
		"order": {
			[]Event{state("a", solver.Started), log("a", "1"), state("b", solver.Started), log("b", "2"), log("a", "3"), state("a", solver.Done), state("b", solver.Failed)},
			[]string{"started a", "1", "started b", "2", "3", "done a", "failed b"},
		},
		"too much": {
			[]Event{
				state("a", solver.Started), log("a", big), log("b", "1"), log("a", "22"), log("b", "333"), state("a", solver.Done), log("b", "4"),
				state("b", solver.Cancelled), {Kind: solver.Warning, Text: "w"},
			},
			[]string{"started a", big, missing(5), missing(2), "done a", "cancelled b", "warning w"},
		},
		"one that is too long alone": {[]Event{log("a", big+big)}, []string{big + big}},
		"the latest number": {
			[]Event{status("a", "x", 1), status("a", "x", 2), status("b", "x", 1), status("a", "x", 3), status("a", "y", 1), state("a", solver.Done), status("a", "y", 2)},
			[]string{"status x 3", "status x 1", "status y 1", "done a", "status y 2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []string
				goOn := make(chan struct{})
				l := listen(func(e Event) {
					<-goOn
					switch e.Kind {
					case solver.Log:
						got = append(got, string(e.Data))
					case solver.Status:
						got = append(got, fmt.Sprintf("status %s %d", e.Name, e.Current))
					default:
						got = append(got, fmt.Sprintf("%s %s%s", e.Kind, e.Name, e.Text))
					}
				})
				l.tell(Event{Kind: solver.Warning, Text: "first"}) // it is in its call from here on
				synctest.Wait()
				for _, e := range c.told {
					l.tell(e)
				}
				close(goOn)
				l.close(t.Context(), 0)
				l.tell(Event{Kind: solver.Warning, Text: "late"})
				if want := append([]string{"warning first"}, c.want...); !slices.Equal(got, want) {
					t.Errorf("%.200q\nwant\n%.200q", got, want)
				}
			})
		})
	}
}
