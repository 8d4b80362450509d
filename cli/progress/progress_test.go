package progress

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

const pullReport = `{"status":"Pulling from library/busybox","id":"latest"}
{"status":"Pulling fs layer","progressDetail":{},"id":"aaaa"}
{"status":"Pulling fs layer","progressDetail":{},"id":"bbbb"}
{"status":"Downloading","progressDetail":{"current":1000,"total":4000},"progress":"x","id":"aaaa"}
{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"bbbb"}
{"status":"Download complete","progressDetail":{},"id":"aaaa"}
{"status":"Pull complete","progressDetail":{},"id":"aaaa"}
{"status":"Digest: sha256:0000"}
{"aux":{"ID":"x"}}
{"status":"Status: Downloaded newer image for busybox:latest"}
`

func TestPlain(t *testing.T) {
	var b bytes.Buffer
	s := NewStream(&b, nil)
	aux := ""
	s.Aux = func(m json.RawMessage) { aux = string(m) }
	if err := s.Copy(strings.NewReader(pullReport)); err != nil {
		t.Fatal(err)
	}
	want := `latest: Pulling from library/busybox
aaaa: Pulling fs layer
bbbb: Pulling fs layer
aaaa: Download complete
aaaa: Pull complete
Digest: sha256:0000
Status: Downloaded newer image for busybox:latest
`
	if b.String() != want || aux != `{"ID":"x"}` {
		t.Errorf("%s\naux %s", b.String(), aux)
	}
}

func TestErrors(t *testing.T) {
	for in, want := range map[string]string{
		`{"errorDetail":{"message":"no such image"},"error":"no such image"}`: "no such image",
		`{"error":"old style"}`: "old style",
		`{"status":`:            "not JSON",
	} {
		if err := NewStream(io.Discard, nil).Copy(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// terminalText is what a terminal of the width shows after out: enough of ECMA-48 for this package.
func terminalText(t *testing.T, out string) []string {
	t.Helper()
	lines := []string{""}
	row := 0
	for len(out) > 0 {
		switch {
		case strings.HasPrefix(out, "\x1b["):
			end := strings.IndexFunc(out[2:], func(r rune) bool { return r >= '@' }) + 2
			var n int
			_, _ = fmt.Sscanf(out[2:end], "%d", &n)
			switch out[end] {
			case 'A':
				if row -= n; row < 0 {
					t.Fatal("the cursor left the screen")
				}
			case 'K':
				lines[row] = ""
			case 'J':
				lines = append(lines[:row], "")
			default:
				t.Fatalf("unknown sequence %q", out[:end+1])
			}
			out = out[end+1:]
		case out[0] == '\n':
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
			out = out[1:]
		case out[0] == '\r':
			out = out[1:]
		default:
			n := strings.IndexAny(out, "\x1b\n\r")
			if n < 0 {
				n = len(out)
			}
			lines[row] = out[:n]
			out = out[n:]
		}
	}
	return lines
}

func TestLive(t *testing.T) {
	var b bytes.Buffer
	clock := time.Unix(0, 0)
	s := NewStream(nil, &Screen{W: &b, Size: func() (int, int) { return 70, 24 }})
	s.begun = clock
	s.live.now = func() time.Time { clock = clock.Add(2 * time.Second); return clock }
	for i, line := range strings.Split(strings.TrimSpace(pullReport), "\n") {
		if err := s.Line([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if i == 4 {
			text := strings.Join(terminalText(t, b.String()), "\n")
			for _, want := range []string{"aaaa: Downloading [=======>", "1kB/4kB", "0 of 2 done, 1.5kB of 5kB, about "} {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
		}
	}
	s.Close()
	text := terminalText(t, b.String())
	want := []string{"latest: Pulling from library/busybox", "Digest: sha256:0000", "Status: Downloaded newer image for busybox:latest", "aaaa: Pull complete"}
	for i, w := range want {
		if text[i] != w {
			t.Errorf("line %d: %q, want %q", i, text[i], w)
		}
	}
}

func TestLiveFits(t *testing.T) {
	var b bytes.Buffer
	l := newLive(Screen{W: &b, Size: func() (int, int) { return 10, 4 }})
	l.draw([]string{"one", "two", "three", "four", "a line that is too long\x1b[31m"})
	text := terminalText(t, b.String())
	if strings.Join(text, "|") != "three|four|a line th…|" {
		t.Errorf("%q", text)
	}
}

func TestMeter(t *testing.T) {
	var b bytes.Buffer
	m := NewMeter(&Screen{W: &b, Size: func() (int, int) { return 80, 24 }}, "Saved", 10)
	if _, err := io.Copy(io.Discard, m.Reader(strings.NewReader("0123456789"))); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if text := terminalText(t, b.String()); !strings.HasPrefix(text[0], "Saved 10B of 10B") || m.Done() != 10 {
		t.Errorf("%q", text)
	}
	quiet := NewMeter(nil, "Saved", 0)
	if n, err := io.Copy(io.Discard, quiet.Reader(strings.NewReader("x"))); n != 1 || err != nil {
		t.Error(n, err)
	}
	quiet.Close()
}
