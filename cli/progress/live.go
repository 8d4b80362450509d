package progress

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Screen is a terminal to draw on. Size is asked before each drawing.
type Screen struct {
	W    io.Writer
	Size func() (width, height int)
}

// every is the least time between two drawings: the eye wants no more, and drawing takes the terminal
// time.
const every = 50 * time.Millisecond

// live is a block of lines at the end of a terminal's text that is drawn anew when it changes.
type live struct {
	screen Screen
	now    func() time.Time
	drawn  int // lines that the block has on the screen; the cursor is below them
	last   time.Time
}

func newLive(s Screen) *live { return &live{screen: s, now: time.Now} }

// due tells whether it is time to draw again.
func (l *live) due() bool { return l.now().Sub(l.last) >= every }

// draw replaces the block. Lines are cut to the width; where there are more than fit, the first ones
// are left out.
func (l *live) draw(lines []string) {
	width, height := l.screen.Size()
	if most := max(height-1, 1); len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	var b strings.Builder
	l.home(&b)
	for _, line := range lines {
		b.WriteString("\x1b[2K" + cut(line, width) + "\n")
	}
	b.WriteString("\x1b[J")
	_, _ = io.WriteString(l.screen.W, b.String())
	l.drawn, l.last = len(lines), l.now()
}

// print puts text above the block, for good.
func (l *live) print(text string, lines []string) {
	var b strings.Builder
	l.home(&b)
	b.WriteString("\x1b[J" + strings.TrimRight(text, "\n") + "\n")
	_, _ = io.WriteString(l.screen.W, b.String())
	l.drawn = 0
	l.draw(lines)
}

func (l *live) home(b *strings.Builder) {
	if l.drawn > 0 {
		fmt.Fprintf(b, "\x1b[%dA", l.drawn)
	}
	b.WriteByte('\r')
}

// cut shortens s to width columns (one a rune). Escape sequences and tabs in it would upset the block:
// what is not printable becomes a space.
func cut(s string, width int) string {
	s = Printable(s)
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	return string([]rune(s)[:width-1]) + "…"
}

// Printable replaces control characters by spaces: what others wrote must not steer the terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}
