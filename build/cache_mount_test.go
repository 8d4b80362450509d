package build

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"
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
