package registry

import (
	"sync"

	"github.com/opencontainers/go-digest"
)

// flights are the layers that are being fetched now, so that two Pulls don't fetch the same.
type flights struct {
	mu    sync.Mutex
	going map[digest.Digest]chan struct{} // guarded by mu; by diffID; closed at the end
}

// take claims a layer; land gives it back. Where somebody else has it, other is closed when that is over,
// however it ended.
func (f *flights) take(diffID digest.Digest) (land func(), other <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if going, ok := f.going[diffID]; ok {
		return nil, going
	}
	done := make(chan struct{})
	f.going[diffID] = done
	return func() {
		f.mu.Lock()
		delete(f.going, diffID)
		f.mu.Unlock()
		close(done)
	}, nil
}
