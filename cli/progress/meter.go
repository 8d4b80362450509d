package progress

import (
	"fmt"
	"io"
	"time"
)

// Meter counts bytes that go by and says so on a terminal: "Saved 12MB, 34MB/s".
type Meter struct {
	live  *live // nil: nothing is shown
	what  string
	total int64
	done  int64
	begun time.Time
}

// NewMeter shows on screen (nil: nowhere). total is in bytes, 0 where nobody knows.
func NewMeter(screen *Screen, what string, total int64) *Meter {
	m := &Meter{what: what, total: total, begun: time.Now()}
	if screen != nil {
		m.live = newLive(*screen)
	}
	return m
}

// Reader counts what is read through it.
func (m *Meter) Reader(r io.Reader) io.Reader { return meterReader{m, r} }

type meterReader struct {
	m *Meter
	r io.Reader
}

func (r meterReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.m.done += int64(n)
	if r.m.live != nil && r.m.live.due() {
		r.m.live.draw([]string{r.m.text()})
	}
	return n, err
}

func (m *Meter) text() string {
	passed := m.live.now().Sub(m.begun)
	text := m.what + " " + size(m.done)
	if m.total > 0 {
		text += " of " + size(m.total)
	}
	if passed > 200*time.Millisecond {
		text += fmt.Sprintf(", %s/s", size(int64(float64(m.done)/passed.Seconds())))
	}
	return text + left(m.done, m.total, passed)
}

// Close leaves the last count on the screen.
func (m *Meter) Close() {
	if m.live != nil {
		m.live.draw([]string{m.text()})
	}
}

// Done is how many bytes went by.
func (m *Meter) Done() int64 { return m.done }
