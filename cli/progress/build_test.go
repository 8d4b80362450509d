package progress

import (
	"bytes"
	"strings"
	"testing"

	"github.com/berth-engine/berth/api/wire"
)

func buildEvents() []wire.BuildEvent {
	const s = int64(1e9)
	return []wire.BuildEvent{
		{Vertex: "a", Kind: "started", Name: "[internal] load build definition", Time: 10 * s},
		{Vertex: "a", Kind: "done", Time: 10*s + s/10},
		{Vertex: "b", Kind: "cached", Name: "[1/2] FROM debian", Time: 11 * s},
		{Vertex: "c", Kind: "started", Name: "[2/2] RUN make\x1b[31m", Time: 11 * s},
		{Vertex: "c", Kind: "log", Stream: 1, Data: []byte("one\ntw"), Time: 12 * s},
		{Vertex: "c", Kind: "log", Stream: 2, Data: []byte("o\nbar 1%\rbar 2%\r\nrest"), Time: 13 * s},
		{Vertex: "c", Kind: "status", Name: "sending", Current: 5, Total: 10, Time: 13 * s},
		{Kind: "warning", Text: "a warning", Time: 13 * s},
		{Vertex: "c", Kind: "failed", Text: "exit code: 2", Time: 14 * s},
	}
}

func TestBuildPlain(t *testing.T) {
	var out bytes.Buffer
	b := NewBuild(&out, nil)
	for _, ev := range buildEvents() {
		b.Event(ev)
	}
	b.Close()
	got := out.String()
	// The line whose end never came has the time of now.
	i, j := strings.Index(got, "#3 "+"2.000 bar"), strings.Index(got, " rest\n")
	if i < 0 || j < i {
		t.Fatal(got)
	}
	want := `#1 [internal] load build definition
#1 DONE 0.1s

#2 [1/2] FROM debian
#2 CACHED

#3 [2/2] RUN make [31m
#3 1.000 one
#3 2.000 two
#3 2.000 bar 2%
WARNING: a warning
#3 `
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " rest\n#3 ERROR: exit code: 2\n\n") {
		t.Errorf("%s", got)
	}
}

func TestBuildLive(t *testing.T) {
	var out bytes.Buffer
	b := NewBuild(nil, &Screen{W: &out, Size: func() (int, int) { return 60, 20 }})
	for _, ev := range buildEvents() {
		b.Event(ev)
	}
	b.Close()
	b.Close()
	text := terminalText(t, out.String())
	want := []string{
		" => [internal] load build definition  DONE 0.1s", " => [1/2] FROM debian  CACHED", "WARNING: a warning", " => ERROR [2/2] RUN make [31m",
	}
	for i, w := range want {
		if i >= len(text) || text[i] != w {
			t.Fatalf("line %d is not %q in\n%s", i, w, strings.Join(text, "\n"))
		}
	}
	if rest := strings.Join(text[4:], "|"); !strings.Contains(rest, "two") || !strings.Contains(rest, "rest") || strings.Contains(rest, "Building") {
		t.Errorf("%q", rest)
	}
}

func TestBuildQuiet(t *testing.T) {
	b := NewBuild(nil, nil)
	for _, ev := range buildEvents() {
		b.Event(ev)
	}
	b.Close()
}
