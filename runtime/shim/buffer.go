package shim

import (
	"sync"
	"time"

	"github.com/berth-engine/berth/internal/frame"
)

// Deadlines: one that has passed, and none.
var (
	longAgo = time.Unix(1, 0)
	never   = time.Time{}
)

// bufferSize is what is read at once, in bytes.
const bufferSize = frame.HeaderSize + 32<<10

// bufferList keeps a few buffers between reads. A process that writes nothing has none.
type bufferList struct {
	mu   sync.Mutex
	free [][]byte // guarded by mu
}

var buffers bufferList

func (l *bufferList) get() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		b := l.free[n-1]
		l.free = l.free[:n-1]
		return b
	}
	return make([]byte, bufferSize)
}

func (l *bufferList) put(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b != nil && len(l.free) < 2 {
		l.free = append(l.free, b)
	}
}
