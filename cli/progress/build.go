package progress

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/berth-engine/berth/api/wire"
)

// Build shows the events of a build: numbered lines without a terminal, what runs now and the last
// lines that it wrote on one.
type Build struct {
	mu       sync.Mutex
	w        io.Writer // plain lines; nil: nothing is shown
	live     *live     // nil: no terminal
	now      func() time.Time
	begun    time.Time
	vertices []*vertex          // guarded by mu
	byID     map[string]*vertex // guarded by mu
	finished int                // guarded by mu
	stop     chan struct{}
	over     sync.WaitGroup
	closed   bool // guarded by mu
}

// vertex is a step of the build.
type vertex struct {
	number    int
	name      string
	begun     time.Time
	done      bool
	status    string // of something under way, with its bytes
	partial   []byte // a line of the log whose end has not come
	last      []string
	announced bool
}

// tail is how many lines of a running step's log are shown, and how many of a failed one's.
const (
	tail       = 5
	failedTail = 50
)

// NewBuild shows on screen if there is one, else in plain lines on w; with neither it shows nothing.
// The caller calls Close.
func NewBuild(w io.Writer, screen *Screen) *Build {
	b := &Build{w: w, now: time.Now, begun: time.Now(), byID: map[string]*vertex{}, stop: make(chan struct{})}
	if screen == nil {
		return b
	}
	b.live = newLive(*screen)
	b.over.Add(1)
	go b.tick()
	return b
}

// tick draws while nothing happens: the seconds go on.
func (b *Build) tick() {
	defer b.over.Done()
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-t.C:
			b.mu.Lock()
			if b.live.due() {
				b.live.draw(b.lines())
			}
			b.mu.Unlock()
		}
	}
}

// Close ends the display: what ran is no longer shown. It may be called more than once.
func (b *Build) Close() {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.closed = true
	b.mu.Unlock()
	close(b.stop)
	b.over.Wait()
	if b.live != nil {
		b.live.draw(nil)
	}
}

// Event shows one event.
func (b *Build) Event(ev wire.BuildEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || (b.w == nil && b.live == nil) {
		return
	}
	v := b.vertex(ev)
	at := time.Unix(0, ev.Time)
	switch ev.Kind {
	case "started":
		v.begun = at
		b.announce(v)
	case "cached":
		b.announce(v)
		b.finish(v, "CACHED")
	case "done":
		b.finish(v, "DONE "+seconds(at.Sub(v.begun)))
	case "failed":
		b.fail(v, ev.Text)
	case "log":
		b.log(v, ev.Data, at)
	case "status":
		b.status(v, ev)
	case "warning":
		b.say("WARNING: " + Printable(ev.Text))
	}
	if b.live != nil && b.live.due() {
		b.live.draw(b.lines())
	}
}

func (b *Build) vertex(ev wire.BuildEvent) *vertex {
	v := b.byID[ev.Vertex]
	if v == nil {
		v = &vertex{number: len(b.vertices) + 1, begun: time.Unix(0, ev.Time)}
		if ev.Vertex != "" {
			b.byID[ev.Vertex] = v
			b.vertices = append(b.vertices, v)
		}
	}
	if ev.Name != "" && ev.Kind != "status" {
		v.name = Printable(ev.Name)
	}
	return v
}

func (b *Build) announce(v *vertex) {
	if !v.announced && b.live == nil {
		fmt.Fprintf(b.w, "#%d %s\n", v.number, v.name)
	}
	v.announced = true
}

func (b *Build) finish(v *vertex, how string) {
	if v.done {
		return
	}
	b.flush(v)
	v.done, v.status = true, ""
	b.finished++
	if b.live == nil {
		fmt.Fprintf(b.w, "#%d %s\n\n", v.number, how)
		return
	}
	b.live.print(fmt.Sprintf(" => %s  %s", v.name, how), b.lines())
}

func (b *Build) fail(v *vertex, text string) {
	b.flush(v)
	v.done = true
	if b.live == nil {
		fmt.Fprintf(b.w, "#%d ERROR: %s\n\n", v.number, Printable(text))
		return
	}
	lines := []string{fmt.Sprintf(" => ERROR %s", v.name)}
	for _, l := range v.last {
		lines = append(lines, "    "+l)
	}
	b.live.print(strings.Join(lines, "\n"), b.lines())
}

// log cuts a log into lines. An unfinished line waits for its end.
func (b *Build) log(v *vertex, data []byte, at time.Time) {
	b.announce(v)
	v.partial = append(v.partial, data...)
	for {
		i := bytes.IndexByte(v.partial, '\n')
		if i < 0 {
			break
		}
		b.logLine(v, string(v.partial[:i]), at)
		v.partial = v.partial[i+1:]
	}
	if len(v.partial) > 64<<10 { // whoever never ends a line
		b.logLine(v, string(v.partial), at)
		v.partial = nil
	}
}

func (b *Build) flush(v *vertex) {
	if len(v.partial) > 0 {
		b.logLine(v, string(v.partial), b.now())
		v.partial = nil
	}
}

func (b *Build) logLine(v *vertex, line string, at time.Time) {
	line = strings.TrimRight(line, "\r")
	if i := strings.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:] // a progress bar that wrote over itself
	}
	if b.live == nil {
		fmt.Fprintf(b.w, "#%d %.3f %s\n", v.number, max(at.Sub(v.begun), 0).Seconds(), line)
		return
	}
	if v.last = append(v.last, Printable(line)); len(v.last) > failedTail {
		v.last = v.last[1:]
	}
}

func (b *Build) status(v *vertex, ev wire.BuildEvent) {
	if v.done {
		return // its last word comes late
	}
	b.announce(v)
	text := Printable(ev.Name)
	switch {
	case ev.Total > 0:
		text += " " + bar(ev.Current, ev.Total) + " " + size(ev.Current) + "/" + size(ev.Total)
	case ev.Current > 0:
		text += " " + size(ev.Current)
	}
	if b.live == nil && (ev.Total == 0 || ev.Current >= ev.Total) && text != v.status {
		fmt.Fprintf(b.w, "#%d %s\n", v.number, text)
	}
	v.status = text
}

// say prints a line that belongs to no step.
func (b *Build) say(text string) {
	if b.live == nil {
		fmt.Fprintln(b.w, text)
		return
	}
	b.live.print(text, b.lines())
}

// lines are the block on the terminal: how far it is, and what runs.
func (b *Build) lines() []string {
	lines := []string{fmt.Sprintf("[+] Building %s (%d/%d)", seconds(b.now().Sub(b.begun)), b.finished, len(b.vertices))}
	for _, v := range b.vertices {
		if v.done || !v.announced {
			continue
		}
		line := fmt.Sprintf(" => %s  %s", v.name, seconds(b.now().Sub(v.begun)))
		if v.status != "" {
			line += "  " + v.status
		}
		lines = append(lines, line)
		for _, l := range v.last[max(0, len(v.last)-tail):] {
			lines = append(lines, "    "+l)
		}
	}
	return lines
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", max(d, 0).Seconds()) }
