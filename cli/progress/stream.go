package progress

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/berth-engine/berth/cli/client"
)

// Stream shows Docker's progress messages, one JSON object a line (pull, push, load).
type Stream struct {
	// Aux gets what a message carries beside the words, for instance the digest of a push.
	Aux func(json.RawMessage)

	w     io.Writer // plain lines; nil: nothing is shown
	live  *live     // nil: no terminal
	items []*item
	byID  map[string]*item
	begun time.Time
}

// item is a line with an ID, usually a layer.
type item struct {
	id, status     string
	current, total int64
	// moved is how much of it had to be moved (its first phase with a total), and how much has been.
	moved, whole int64
	done         bool
}

// NewStream shows on screen if there is one, else in plain lines on w; with neither it only reads.
func NewStream(w io.Writer, screen *Screen) *Stream {
	s := &Stream{w: w, byID: map[string]*item{}, begun: time.Now()}
	if screen != nil {
		s.live = newLive(*screen)
	}
	return s
}

// maxMessage bounds one message.
const maxMessage = 1 << 20

// Copy shows everything that r has. An error that the engine put into the stream is returned.
func (s *Stream) Copy(r io.Reader) error {
	defer s.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxMessage)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := s.Line(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the engine's report broke off: %w", err)
	}
	return nil
}

// Line shows one message. Its error, if it carries one, is returned.
func (s *Stream) Line(line []byte) error {
	var m client.Message
	if err := json.Unmarshal(line, &m); err != nil {
		return fmt.Errorf("the engine's report has a line that is not JSON: %w", err)
	}
	if err := m.Err(); err != nil {
		s.Close()
		return err
	}
	if m.Aux != nil && s.Aux != nil {
		s.Aux(m.Aux)
	}
	switch {
	case s.live != nil:
		s.show(m)
	case s.w != nil:
		s.plain(m)
	}
	return nil
}

func (s *Stream) plain(m client.Message) {
	p := m.ProgressDetail
	switch {
	case m.Stream != "":
		fmt.Fprint(s.w, m.Stream)
	case p != nil && (p.Current > 0 || p.Total > 0), m.Status == "":
	case m.ID != "":
		fmt.Fprintf(s.w, "%s: %s\n", m.ID, m.Status)
	default:
		fmt.Fprintln(s.w, m.Status)
	}
}

func (s *Stream) show(m client.Message) {
	if m.ID == "" || m.Stream != "" || strings.HasPrefix(m.Status, "Pulling from") {
		text := m.Stream + m.Status
		if m.ID != "" {
			text = m.ID + ": " + text
		}
		if strings.TrimSpace(text) != "" {
			s.live.print(Printable(strings.TrimRight(text, "\n")), s.lines())
		}
		return
	}
	it := s.byID[m.ID]
	if it == nil {
		it = &item{id: m.ID}
		s.byID[m.ID] = it
		s.items = append(s.items, it)
	}
	it.update(m)
	if s.live.due() {
		s.live.draw(s.lines())
	}
}

// isEnd tells whether nothing more comes of an item after a status.
func isEnd(status string) bool {
	switch status {
	case "Pull complete", "Already exists", "Pushed", "Layer already exists":
		return true
	}
	return strings.HasPrefix(status, "Mounted from")
}

func (it *item) update(m client.Message) {
	it.status, it.current, it.total = m.Status, 0, 0
	if p := m.ProgressDetail; p != nil {
		it.current, it.total = p.Current, p.Total
		// The first phase that knows its size is the one that crosses the network.
		if it.whole == 0 {
			it.whole = p.Total
		}
		if p.Total == it.whole && p.Current > it.moved {
			it.moved = p.Current
		}
	}
	it.done = isEnd(m.Status)
	if it.done || m.Status == "Download complete" {
		it.moved = it.whole
	}
}

func (s *Stream) lines() []string {
	var lines []string
	for _, it := range s.items {
		line := it.id + ": " + it.status
		switch {
		case it.total > 0:
			line += " " + bar(it.current, it.total) + " " + size(it.current) + "/" + size(it.total)
		case it.current > 0:
			line += " " + size(it.current)
		}
		lines = append(lines, line)
	}
	if sum := s.summary(); sum != "" {
		lines = append(lines, sum)
	}
	return lines
}

// summary says how much is done of everything, and about how long the rest takes.
func (s *Stream) summary() string {
	var moved, whole int64
	done := 0
	for _, it := range s.items {
		moved, whole = moved+it.moved, whole+it.whole
		if it.done {
			done++
		}
	}
	if len(s.items) < 2 && whole == 0 {
		return ""
	}
	text := fmt.Sprintf("%d of %d done", done, len(s.items))
	if whole > 0 {
		text += ", " + size(moved) + " of " + size(whole) + left(moved, whole, s.live.now().Sub(s.begun))
	}
	return text
}

// Close draws what is there for the last time. It may be called more than once.
func (s *Stream) Close() {
	if s.live != nil && len(s.items) > 0 {
		s.live.draw(s.lines())
		s.items, s.byID = nil, map[string]*item{}
		s.live.drawn = 0
	}
}

// left guesses from what was done in the time so far.
func left(done, total int64, in time.Duration) string {
	if done <= 0 || total <= done || in < time.Second {
		return ""
	}
	rest := time.Duration(float64(in) * float64(total-done) / float64(done))
	return fmt.Sprintf(", about %s left", max(rest.Round(time.Second), time.Second))
}

func bar(current, total int64) string {
	const width = 30
	n := int(min(current, total) * width / total)
	if n >= width {
		return "[" + strings.Repeat("=", width) + "]"
	}
	return "[" + strings.Repeat("=", n) + ">" + strings.Repeat(" ", width-n-1) + "]"
}

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
