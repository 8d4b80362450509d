package build

import (
	"strings"
	"testing"
)

func TestThin(t *testing.T) {
	w := newWorld(t)
	src := w.local(map[string]string{
		"Dockerfile": "FROM base\nENV A=b\nCOPY hello /greeting\nRUN cat /greeting > /copy && echo $A\nLABEL x=y\n",
		"hello":      "hi",
	})
	b := w.build(src)
	files := w.files(b)
	if files["greeting"] != "644 0:0 hi" || files["copy"] != "644 0:0 hi" || !strings.Contains(b.log, "b\n") {
		t.Errorf("%v\n%s", files, b.log)
	}
	if b.img.Config.Labels["x"] != "y" || len(b.DiffIDs) != 3 {
		t.Errorf("%s", b.Config)
	}
	again := w.build(src)
	if again.id != b.id || w.exec.runs.Load() != 1 || again.Cached != again.Steps {
		t.Errorf("%s\n%s\n%d runs, %d of %d cached", b.Config, again.Config, w.exec.runs.Load(), again.Cached, again.Steps)
	}
	w.restart()
	again = w.build(src)
	if again.id != b.id || w.exec.runs.Load() != 1 {
		t.Errorf("after a restart: %s\n%s\n%d runs", b.Config, again.Config, w.exec.runs.Load())
	}
}
