package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/build/solver"
)

// TestCache: what makes a step run again, and what doesn't.
func TestCache(t *testing.T) {
	const dockerfile = "FROM base\nARG A=1\nCOPY f d /x/\nRUN cat /x/f > /got\nRUN echo $A > /arg\n"
	start := func() map[string]string {
		return map[string]string{"Dockerfile": dockerfile, "f": "1", "d/g": "2", "other": "3"}
	}
	for name, c := range map[string]struct {
		change func(*Request, *local)
		files  func(map[string]string)
		cached int // of three steps
	}{
		"nothing":               {cached: 3},
		"times":                 {change: func(_ *Request, l *local) { l.mtime = l.mtime.Add(time.Hour) }, cached: 3},
		"content":               {files: func(f map[string]string) { f["f"] = "9" }, cached: 0},
		"content below":         {files: func(f map[string]string) { f["d/g"] = "9" }, cached: 0},
		"a name more":           {files: func(f map[string]string) { f["d/h"] = "" }, cached: 0},
		"an empty directory":    {files: func(f map[string]string) { f["d/e/"] = "" }, cached: 0},
		"mode":                  {change: func(_ *Request, l *local) { l.modes = map[string]uint32{"f": 0o600} }, cached: 0},
		"what is not copied":    {files: func(f map[string]string) { f["other"] = "9" }, cached: 3},
		"an argument":           {change: func(r *Request, _ *local) { r.Args = map[string]string{"A": "2"} }, cached: 1},
		"an unused argument":    {change: func(r *Request, _ *local) { r.Args = map[string]string{"B": "2"} }, cached: 3},
		"a proxy":               {change: func(r *Request, _ *local) { r.Args = map[string]string{"https_proxy": "http://p"} }, cached: 3},
		"a label":               {files: func(f map[string]string) { f["Dockerfile"] += "LABEL a=b\n" }, cached: 3},
		"an extra host's place": {change: func(r *Request, _ *local) { r.ExtraHosts = []solver.Host{{Name: "h", IP: "10.0.0.2"}} }, cached: 3},
		"another command":       {files: func(f map[string]string) { f["Dockerfile"] = strings.Replace(dockerfile, "cat /x/f", "cat  /x/f", 1) }, cached: 1},
		"no cache":              {change: func(r *Request, _ *local) { r.NoCache = true }, cached: 0},
		"comments":              {files: func(f map[string]string) { f["Dockerfile"] = "# hello\n" + dockerfile }, cached: 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := w.build(w.local(start()), func(r *Request) {
				if name == "an extra host's place" {
					r.ExtraHosts = []solver.Host{{Name: "h", IP: "10.0.0.1"}}
				}
			})
			files := start()
			if c.files != nil {
				c.files(files)
			}
			src := w.local(files)
			second := w.build(src, func(r *Request) {
				if c.change != nil {
					c.change(r, src)
				}
			})
			if second.Steps != 3 || second.Cached != c.cached {
				t.Errorf("%d of %d steps came from the cache, want %d", second.Cached, second.Steps, c.cached)
			}
			if c.cached == 3 && name != "a label" && second.id != first.id {
				t.Error("another image")
			}
		})
	}
}

// TestOrder: a step that does not change is not found below another one.
func TestOrder(t *testing.T) {
	w := newWorld(t)
	w.build(w.local(map[string]string{"Dockerfile": "FROM base\nRUN echo 1 >> /f\nRUN echo 2 >> /f\n"}))
	b := w.build(w.local(map[string]string{"Dockerfile": "FROM base\nRUN echo 2 >> /f\nRUN echo 1 >> /f\n"}))
	if got := w.files(b)["f"]; got != "644 0:0 2\n1" || b.Cached != 0 {
		t.Errorf("%q, %d cached", got, b.Cached)
	}
}

// TestContentBased: a stage that ran again and gave the same does not make others run again.
func TestContentBased(t *testing.T) {
	w := newWorld(t)
	files := func(src string) *local {
		return w.local(map[string]string{"Dockerfile": "FROM base AS build\nCOPY src /src\nRUN grep -v '#' /src > /out; true\nFROM base\nCOPY --from=build /out /out\nRUN cat /out > /got\n", "src": src})
	}
	w.build(files("code\n# one\n"))
	b := w.build(files("code\n# another\n"))
	if b.Steps != 4 || b.Cached != 2 {
		t.Errorf("%d of %d cached", b.Cached, b.Steps)
	}
	again := w.build(files("code\n# another\n"))
	if again.id != b.id || again.Cached != 4 {
		t.Errorf("%d of %d cached", again.Cached, again.Steps)
	}
}

// TestLostLayers: where layers have been deleted, only what needs them runs again.
func TestLostLayers(t *testing.T) {
	w := newWorld(t)
	src := func(more string) *local {
		return w.local(map[string]string{"Dockerfile": "FROM base AS build\nRUN date +%N-made > /out; date > /kept\nFROM base\nCOPY --from=build /out /out\nRUN cat /out\n" + more})
	}
	first := w.build(src(""))
	w.restart() // what is made in the background is done, and nothing is pinned
	layers, err := w.Layers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var stage []digest.Digest
	for _, id := range layers {
		if !slices.Contains(first.DiffIDs, id) {
			stage = append(stage, id)
		}
	}
	if len(stage) != 1 {
		t.Fatalf("%d layers are the stage's", len(stage))
	}
	if err := w.layers.Remove(t.Context(), stage...); err != nil {
		t.Fatal(err)
	}
	if b := w.build(src("")); b.id != first.id || b.Cached != b.Steps {
		t.Errorf("%d of %d cached, though nobody needs the stage's layer: %s, %s", b.Cached, b.Steps, first.Config, b.Config)
	}
	if err := w.layers.Remove(t.Context(), first.DiffIDs[1:]...); err != nil {
		t.Fatal(err)
	}
	w.restart()
	b := w.build(src("RUN echo more\n"))
	if got := w.files(b)["out"]; !strings.HasSuffix(got, "-made") {
		t.Errorf("%q", got)
	}
	if again := w.build(src("RUN echo more\n")); again.id != b.id || again.Cached != again.Steps {
		t.Errorf("%d of %d cached", again.Cached, again.Steps)
	}
}

// TestMadeWhileDeleted: a step that gives a layer that is here, and that somebody is just deleting, has it all the same.
func TestMadeWhileDeleted(t *testing.T) {
	w := newWorld(t)
	src := w.local(map[string]string{"Dockerfile": "FROM base\nRUN true\n"})
	first := w.build(src)
	last := first.DiffIDs[len(first.DiffIDs)-1]
	held, released := 0, 0
	w.hold = func(id digest.Digest) func() { // returns when the deletion is done
		held++
		if err := w.layers.Remove(t.Context(), id); err != nil {
			t.Error(err)
		}
		return func() { released++ }
	}
	w.restart()
	b := w.build(src, func(r *Request) { r.NoCache = true })
	if _, err := w.layers.Get(last); err != nil || !slices.Equal(b.DiffIDs, first.DiffIDs) || held != 1 || released != 1 {
		t.Errorf("held %d times, released %d times: %v", held, released, err)
	}
	_, err := w.try(src, func(r *Request) {
		r.Hold = func(ids []digest.Digest) {
			if err := w.layers.Remove(t.Context(), last); err != nil {
				t.Error(err)
			}
		}
	})
	if err == nil || !strings.Contains(err.Error(), "has been deleted meanwhile") {
		t.Errorf("a result without its layer: %v", err)
	}
}

// TestFailedWhileConverting: what a failed build's step gave becomes a layer afterwards, and is then in the cache, held by
// nobody: a prune gives it away, and none that comes earlier forgets it.
func TestFailedWhileConverting(t *testing.T) {
	w := newWorld(t)
	failed := make(chan struct{})
	var held, released atomic.Int32
	w.hold = func(digest.Digest) func() {
		held.Add(1)
		<-failed
		return func() { released.Add(1) }
	}
	w.restart()
	if _, err := w.try(w.local(map[string]string{"Dockerfile": "FROM base\nRUN echo 1 > /f\nRUN false\n"})); err == nil {
		t.Fatal("RUN false succeeded")
	}
	if _, layers, err := w.Prune(t.Context(), PruneOptions{All: true}); err != nil || len(layers) > 0 {
		t.Errorf("pruned while it is made a layer: %v, %v", layers, err)
	}
	close(failed)
	deadline := time.Now().Add(20 * time.Second)
	for released.Load() == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if held.Load() != 1 || released.Load() != 1 {
		t.Errorf("held %d times, released %d times", held.Load(), released.Load())
	}
	named, err := w.Layers(t.Context())
	if err != nil || len(named) != 2 {
		t.Errorf("named: %v, %v", named, err)
	}
	_, layers, err := w.Prune(t.Context(), PruneOptions{All: true})
	slices.Sort(layers)
	slices.Sort(named)
	if err != nil || !slices.Equal(slices.Compact(layers), named) {
		t.Errorf("a prune forgot %v, %v, want %v", layers, err, named)
	}
}

// TestDamagedLayers: a step whose layer is damaged on the disk is in the cache as long as the layer can be
// made anew of its tar; else it runs again.
func TestDamagedLayers(t *testing.T) {
	w := newWorld(t)
	src := w.local(map[string]string{"Dockerfile": "FROM base\nRUN date +%N > /first\nRUN cat /first > /second\n"})
	first := w.build(src)
	damage := func(id digest.Digest, tarToo bool) {
		t.Helper()
		w.restart()
		name := filepath.Join(w.root, "layers", "layers", id.Encoded()+".erofs")
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[1024+100]++ // of the superblock
		if tarToo {
			b[4096+50]++
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	last := first.DiffIDs[len(first.DiffIDs)-1]
	damage(last, false)
	if b := w.build(src); b.id != first.id || b.Cached != b.Steps {
		t.Errorf("metadata: %d of %d cached", b.Cached, b.Steps)
	}
	damage(last, true)
	b := w.build(src)
	if b.Cached != b.Steps-1 {
		t.Errorf("tar: %d of %d cached", b.Cached, b.Steps)
	}
	if got, want := w.files(b)["second"], w.files(b)["first"]; got != want || b.DiffIDs[1] != first.DiffIDs[1] {
		t.Errorf("%q %q", got, want)
	}
	if again := w.build(src); again.id != b.id || again.Cached != again.Steps {
		t.Errorf("afterwards: %d of %d cached", again.Cached, again.Steps)
	}
}

// TestBaseNotNeeded: a cached build asks for no layer of its base.
func TestBaseNotNeeded(t *testing.T) {
	w := newWorld(t)
	src := w.local(map[string]string{"Dockerfile": "FROM base\nRUN true\n"})
	w.build(src)
	before := w.images.ensured
	w.build(src)
	if w.images.ensured != before {
		t.Error("the base image's layers were asked for")
	}
}

func TestDamagedCacheIsThrownAway(t *testing.T) {
	w := newWorld(t)
	src := w.local(map[string]string{"Dockerfile": "FROM base\nCOPY f /f\nRUN cat /f > /g\n", "f": "1"})
	first := w.build(src)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.root, "build", journalFile), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	b := w.build(src)
	if b.Cached != 0 || w.files(b)["g"] != w.files(first)["g"] {
		t.Errorf("%d cached", b.Cached)
	}
	if again := w.build(src); again.id != b.id {
		t.Error("another image")
	}
}

func TestKilledEngineLeavesNothing(t *testing.T) {
	w := newWorld(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	junk := filepath.Join(w.root, "build/solver/steps/7/upper/etc")
	if err := os.MkdirAll(junk, 0o755); err != nil {
		t.Fatal(err)
	}
	w.open()
	if _, err := os.Stat(filepath.Join(w.root, "build/solver/steps/7")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a killed engine's step is still there: %v", err)
	}
}

// TestParallel: two branches that wait for each other can only end if they run at the same time.
func TestParallel(t *testing.T) {
	w := newWorld(t)
	var met sync.WaitGroup
	met.Add(2)
	w.exec.pause = func(ctx context.Context, s solver.ExecSpec) {
		if !strings.Contains(s.Args[2], "meet") {
			return
		}
		met.Done()
		done := make(chan struct{})
		go func() { met.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Minute):
			t.Error("the other branch did not start")
		}
	}
	b := w.build(w.local(map[string]string{"Dockerfile": "FROM base AS a\nRUN echo meet a > /a\nFROM base AS b\nRUN echo meet b > /b\nFROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n"}))
	if f := w.files(b); f["a"] == "" || f["b"] == "" {
		t.Errorf("%v", f)
	}
}

// TestConcurrentBuilds: equal steps run once; everybody hears them; all get the same image.
func TestConcurrentBuilds(t *testing.T) {
	w := newWorld(t)
	const builds = 4
	var started sync.WaitGroup
	started.Add(builds)
	w.exec.pause = func(ctx context.Context, s solver.ExecSpec) { started.Wait() }
	ids, logs := make([]digest.Digest, builds), make([]string, builds)
	var all sync.WaitGroup
	for i := range builds {
		all.Go(func() {
			src := w.local(map[string]string{"Dockerfile": "FROM base\nCOPY f /f\nRUN echo said; date > /when\nRUN cat /when\n", "f": "1"})
			once := sync.OnceFunc(started.Done)
			ev := &events{}
			res, err := w.Build(t.Context(), Request{Source: src, Progress: func(e Event) {
				ev.hear(e)
				if e.Kind == solver.Started && strings.Contains(e.Name, "RUN echo said") {
					once()
				}
			}})
			once()
			if err != nil {
				t.Error(err)
			}
			ids[i], logs[i] = digest.FromBytes(res.Config), ev.log()
		})
	}
	all.Wait()
	for i := range builds {
		if ids[i] != ids[0] || !strings.Contains(logs[i], "said\n") {
			t.Errorf("build %d: %s, heard %q", i, ids[i], logs[i])
		}
	}
	if n := w.exec.runs.Load(); n != 2 {
		t.Errorf("%d runs, want 2", n)
	}
}

// begin builds in the background, and tells when a RUN of it has begun.
func (w *world) begin(ctx context.Context, src Source) (result chan outcome, running chan struct{}) {
	result, running = make(chan outcome, 1), make(chan struct{})
	once := sync.OnceFunc(func() { close(running) })
	go func() {
		res, err := w.Build(ctx, Request{Source: src, Progress: func(e Event) {
			if e.Kind == solver.Started && strings.Contains(e.Name, "RUN") {
				once()
			}
		}})
		result <- outcome{res, err}
	}()
	return result, running
}

type outcome struct {
	Result
	err error
}

// TestCancel: who leaves does not take the step from those who stay; the last one does.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	running, goOn := make(chan context.Context, 8), make(chan struct{})
	w.exec.pause = func(ctx context.Context, s solver.ExecSpec) {
		running <- ctx
		select {
		case <-goOn:
		case <-ctx.Done():
		}
	}
	src := func(n int) *local {
		return w.local(map[string]string{"Dockerfile": fmt.Sprintf("FROM base\nRUN echo %d > /f\n", n)})
	}
	first, leave := context.WithCancel(t.Context())
	one, _ := w.begin(first, src(1))
	step := <-running
	two, joined := w.begin(t.Context(), src(1))
	<-joined
	leave()
	if got := <-one; !errors.Is(got.err, context.Canceled) {
		t.Errorf("who left got %v", got.err)
	}
	if step.Err() != nil {
		t.Error("the step was cancelled though another build waits")
	}
	close(goOn)
	if got := <-two; got.err != nil {
		t.Errorf("who stayed got %v", got.err)
	}
	if n := w.exec.runs.Load(); n != 1 {
		t.Errorf("%d runs", n)
	}

	last, leave := context.WithCancel(t.Context())
	goOn = make(chan struct{})
	three, _ := w.begin(last, src(2))
	step = <-running
	leave()
	if got := <-three; !errors.Is(got.err, context.Canceled) {
		t.Error(got.err)
	}
	<-step.Done() // the last one has gone
}

// TestClientGoes: a step that needs the secret of a client that goes starts again with another's.
func TestClientGoes(t *testing.T) {
	w := newWorld(t)
	const dockerfile = "FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s > /f\n"
	gone := &leaving{local: w.local(map[string]string{"Dockerfile": dockerfile}), asked: make(chan struct{}), answer: make(chan struct{})}
	one, _ := w.begin(t.Context(), gone)
	<-gone.asked
	src := w.local(map[string]string{"Dockerfile": dockerfile})
	src.secrets = map[string]string{"s": "second"}
	two, joined := w.begin(t.Context(), src)
	<-joined
	close(gone.gone)
	close(gone.answer)
	if got := <-one; got.err == nil {
		t.Error("the build of a client that has gone ended well")
	}
	got := <-two
	if got.err != nil {
		t.Fatal(got.err)
	}
	if f := w.files(built{Result: got.Result})["f"]; f != "644 0:0 second" {
		t.Errorf("%q", f)
	}
}

// leaving goes when it is asked for a secret.
type leaving struct {
	*local
	asked, answer chan struct{}
}

func (l *leaving) Secret(context.Context, string) ([]byte, error) {
	close(l.asked)
	<-l.answer
	return nil, errors.New("the client has gone")
}

func TestLockedCacheMounts(t *testing.T) {
	w := newWorld(t)
	b := w.build(w.local(map[string]string{"Dockerfile": `FROM base AS a
RUN --mount=type=cache,id=l,target=/l,sharing=locked test ! -e /l/held && touch /l/held && sleep 0.1 && rm /l/held && echo a > /a
FROM base AS b
RUN --mount=type=cache,id=l,target=/l,sharing=locked test ! -e /l/held && touch /l/held && sleep 0.1 && rm /l/held && echo b > /b
FROM scratch
COPY --from=a /a /
COPY --from=b /b /
`}))
	if f := w.files(b); f["a"] == "" || f["b"] == "" {
		t.Errorf("%v", f)
	}
	u, err := w.Usage(t.Context())
	if err != nil || !slices.ContainsFunc(u.Entries, func(e Entry) bool { return e.Type == "exec.cachemount" && strings.HasSuffix(e.Description, "/l") }) {
		t.Errorf("%+v %v", u, err)
	}
	if _, _, err := w.Prune(t.Context(), PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if u, err = w.Usage(t.Context()); err != nil || len(u.Entries) != 0 {
		t.Errorf("%+v %v", u, err)
	}
}
