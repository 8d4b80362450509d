package build

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCacheMountsOfOneStep: the same one twice is one directory, in whatever way it is shared.
func TestCacheMountsOfOneStep(t *testing.T) {
	w := newWorld(t)
	for _, c := range [][2]string{{"locked", "locked"}, {"private", "private"}, {"shared", "shared"}, {"locked", "shared"}, {"private", "locked"}} {
		t.Run(strings.Join(c[:], " and "), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			id := strings.Join(c[:], "-")
			_, err := w.Build(ctx, Request{Source: w.local(map[string]string{"Dockerfile": "FROM base\n" +
				"RUN --mount=type=cache,id=" + id + ",target=/x,sharing=" + c[0] + " --mount=type=cache,id=" + id + ",target=/y,sharing=" + c[1] +
				" --mount=type=cache,id=" + id + ",target=/x/z,sharing=" + c[0] + " echo 1 > /x/f && cat /y/f && cat /x/z/f\n"})})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// asking calls ask when a step wants a secret.
type asking struct {
	*local
	ask func()
}

func (a *asking) Secret(ctx context.Context, id string) ([]byte, error) {
	a.ask()
	return a.local.Secret(ctx, id)
}

// TestCacheMountOfAStepThatRunsAgain: what a cache mount is filled from may be a step that has to run
// again, and has a cache mount, even the same.
func TestCacheMountOfAStepThatRunsAgain(t *testing.T) {
	w := newWorld(t)
	const stage = "FROM base AS stage\nRUN --mount=type=cache,id=c,target=/c,sharing=locked mkdir /out && echo made > /out/f\n"
	b := w.build(w.local(map[string]string{"Dockerfile": stage}))
	w.restart() // nothing is pinned
	src := &asking{local: w.local(map[string]string{"Dockerfile": stage + "FROM base\n" +
		"RUN --mount=type=secret,id=s --mount=type=cache,id=c,target=/own,sharing=locked --mount=type=cache,id=d,from=stage,source=/out,target=/o,sharing=locked cat /o/f\n"})}
	src.secrets = map[string]string{"s": ""}
	src.ask = sync.OnceFunc(func() {
		if err := w.layers.Remove(t.Context(), b.DiffIDs[1]); err != nil {
			t.Error(err)
		}
	})
	runs := w.exec.runs.Load()
	ev := &events{}
	within(t, "the step", func() {
		if _, err := w.Build(t.Context(), Request{Source: src, Progress: ev.hear}); err != nil {
			t.Error(err)
		}
	})
	if n := w.exec.runs.Load() - runs; n != 2 || ev.log() != "made\n" {
		t.Errorf("%d runs, %q", n, ev.log())
	}
}

// TestOneBadCacheMount: one that is too deep to be measured, and one that can't be deleted, keep nothing
// else from being listed and deleted.
func TestOneBadCacheMount(t *testing.T) {
	w := newWorld(t)
	w.build(w.local(map[string]string{"Dockerfile": "FROM base\n" +
		"RUN --mount=type=cache,id=good,target=/good --mount=type=cache,id=deep,target=/deep --mount=type=cache,id=busy,target=/busy mkdir /busy/d && echo 12345 | tee /good/f /deep/f > /busy/f\n"}))
	dirs := map[string]string{} // of the trees, by id
	u, err := w.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range u.Entries {
		if id := e.Description; e.Type == "exec.cachemount" {
			dirs[id[strings.LastIndex(id, "/")+1:]] = filepath.Join(w.root, "build/solver/mounts", e.ID, "data")
		}
	}
	if len(dirs) != 3 {
		t.Fatalf("%+v", u)
	}
	deepen(t, dirs["deep"])
	busy := filepath.Join(dirs["busy"], "d")
	if err := unix.Mount("tmpfs", busy, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, tree := range []string{"data", "old"} { // before and after Prune
			_ = unix.Unmount(filepath.Join(filepath.Dir(dirs["busy"]), tree, "d"), unix.MNT_DETACH)
		}
	})

	if u, err = w.Usage(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range u.Entries {
		if e.Type == "exec.cachemount" && e.Bytes < int64(len("12345\n")) {
			t.Errorf("%+v", e)
		}
	}
	if _, _, err := w.Prune(t.Context(), PruneOptions{All: true}); err != nil {
		t.Error(err)
	}
	if u, err = w.Usage(t.Context()); err != nil || u.Records != 0 {
		t.Errorf("%+v %v", u, err)
	}
	for id, want := range map[string]bool{"good": false, "deep": false, "busy": true} {
		if _, err := os.Stat(filepath.Dir(dirs[id])); (err == nil) != want {
			t.Errorf("%s is there: %v (%v), want %v", id, err == nil, err, want)
		}
	}
	if _, err := os.Stat(dirs["busy"]); err == nil {
		t.Error("what is left of a cache mount would be mounted")
	}
}

// deepen makes directories in dir until no path is long enough for them.
func deepen(t *testing.T, dir string) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for n, name := 0, strings.Repeat("d", 200); err == nil && n <= unix.PathMax/len(name); n++ {
		if err = unix.Mkdirat(fd, name, 0o755); err != nil {
			break
		}
		at := fd
		fd, err = unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		_ = unix.Close(at)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fd)
}

// TestPruneForgetsOnlyAtTheEnd: where deleting fails as a whole, the cache still knows its layers.
func TestPruneForgetsOnlyAtTheEnd(t *testing.T) {
	w := newWorld(t)
	w.build(w.local(map[string]string{"Dockerfile": "FROM base\nRUN echo 1 > /f\n"}))
	w.restart()
	before, err := w.Layers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mounts := filepath.Join(w.root, "build/solver/mounts")
	if err := os.Rename(mounts, mounts+".away"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Prune(t.Context(), PruneOptions{All: true}); err == nil {
		t.Error("there was nothing to prune, and no error")
	}
	after, err := w.Layers(t.Context())
	if err != nil || len(before) == 0 || len(after) != len(before) {
		t.Errorf("of %d layers %d are known (%v)", len(before), len(after), err)
	}
}
