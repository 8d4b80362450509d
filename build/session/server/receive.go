package server

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/tree"
	"github.com/berth-engine/berth/internal/frame"
)

// loader asks the client for contents. k is what was known of the source, and complete whether the
// tree's list is of everything; both for remembering afterwards (k == nil: nothing is remembered).
func (s *Session) loader(source string, list uint64, k *known, complete bool, progress func(current, total int64)) tree.Loader {
	return func(ctx context.Context, t *tree.Tree, want []int) error {
		r, err := newReceiver(s.store.Contents, t, want, progress)
		if err != nil {
			return err
		}
		id, err := s.register(r)
		if err != nil {
			return errors.Join(err, r.abort())
		}
		defer s.forget(id)
		if err := s.w.WriteJSON(session.FilesRequestFrame, session.FilesRequest{ID: id, List: list, Want: want}); err != nil {
			s.forget(id)
			return errors.Join(fmt.Errorf("%w: %w", ErrGone, err), r.abort())
		}
		err = s.await(ctx, r.result)
		s.forget(id)
		if err := r.finish(err); err != nil {
			return err
		}
		if k == nil {
			return nil
		}
		k = remember(k, t, r, complete) // loads of one tree come one after the other
		return s.store.put(s.sources[source], k)
	}
}

// receiver takes the contents of files as they come. Frames with whole files are hashed and written by
// several workers; pieces of longer ones in the order in which they come.
type receiver struct {
	t        *tree.Tree
	w        *tree.Writer
	result   chan error
	work     chan []byte
	workers  sync.WaitGroup
	progress func(current, total int64)
	total    int64

	taking  sync.Mutex      // held while a frame is taken; before mu
	stopped bool            // no frame is taken any more, and work is closed; guarded by taking
	streams map[int]*stream // of files that have begun; guarded by taking

	mu       sync.Mutex
	done     map[int]received // guarded by mu
	wanted   map[int]bool     // guarded by mu
	bytes    int64            // guarded by mu
	reported bool             // guarded by mu
}

type stream struct {
	to   *tree.Stream
	stat session.Entry
}

type received struct {
	entry   tree.Entry
	content tree.Content
	settled bool
}

func newReceiver(store *tree.Store, t *tree.Tree, want []int, progress func(current, total int64)) (*receiver, error) {
	w, err := store.Writer()
	if err != nil {
		return nil, err
	}
	r := &receiver{
		t: t, w: w, result: make(chan error, 1), progress: progress, work: make(chan []byte, 4),
		streams: map[int]*stream{}, done: map[int]received{}, wanted: map[int]bool{},
	}
	for _, i := range want {
		r.wanted[i] = true
		r.total += t.Entries[i].Size
	}
	for range max(2, min(4, runtime.GOMAXPROCS(0))) {
		r.workers.Go(func() {
			for b := range r.work {
				if err := session.DecodePieces(b, r.piece); err != nil {
					r.fail(err)
				}
			}
		})
	}
	return r, nil
}

// take is called by Deliver, that is, by one goroutine.
func (r *receiver) take(kind frame.Kind, payload []byte) (bool, error) {
	if kind != session.FilesFrame {
		return false, fmt.Errorf("the client answers with a frame of kind %d, not %d", kind, session.FilesFrame)
	}
	r.taking.Lock()
	defer r.taking.Unlock()
	if r.stopped {
		return true, nil
	}
	whole := true
	err := session.DecodePieces(payload, func(p session.Piece) error {
		const both = session.PieceFirst | session.PieceLast
		whole = whole && p.Flags&both == both && r.streams[p.Index] == nil
		return nil
	})
	if err != nil {
		return false, err
	}
	if !whole {
		return false, session.DecodePieces(payload, r.piece)
	}
	r.work <- slices.Clone(payload)
	return false, nil
}

// piece takes one piece: of a whole file on any worker, else with taking held.
func (r *receiver) piece(p session.Piece) error {
	if p.Index >= len(r.t.Entries) {
		return errors.New("the client sent a file that was not asked for")
	}
	path := r.t.Entries[p.Index].Path
	const both = session.PieceFirst | session.PieceLast
	if p.Flags&both == both && int64(len(p.Data)) == p.Stat.Size {
		sum, content, err := r.w.Put(p.Data)
		if err != nil {
			return err
		}
		return r.file(p.Index, p.Stat, sum, content, p.Flags)
	}
	if p.Flags&session.PieceFirst != 0 {
		r.streams[p.Index] = &stream{r.w.Stream(p.Stat.Size), p.Stat}
	}
	st := r.streams[p.Index]
	if st == nil {
		return fmt.Errorf("%s: the client sent the middle of a file that has not begun", path)
	}
	if err := st.to.Write(p.Data); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.count(int64(len(p.Data)))
	if p.Flags&session.PieceLast == 0 {
		return nil
	}
	delete(r.streams, p.Index)
	sum, content, err := st.to.Finish()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.count(-content.Size()) // file counts the whole
	return r.file(p.Index, st.stat, sum, content, p.Flags)
}

func (r *receiver) count(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes += n
	if r.progress != nil && n > 0 {
		r.progress(r.bytes, r.total)
	}
}

// file notes that a file is complete.
func (r *receiver) file(i int, stat session.Entry, sum tree.Sum, content tree.Content, flags byte) error {
	r.count(content.Size())
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.wanted[i] {
		return errors.New("the client sent a file that was not asked for")
	}
	e := tree.Entry{Entry: stat, Sum: sum}
	e.Path = r.t.Entries[i].Path
	r.done[i] = received{e, content, flags&session.PieceSettled != 0}
	delete(r.wanted, i)
	if len(r.wanted) == 0 {
		r.report(nil)
	}
	return nil
}

func (r *receiver) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report(err)
}

// report needs mu held. Only the first report counts.
func (r *receiver) report(err error) {
	if !r.reported {
		r.reported = true
		r.result <- err
	}
}

// finish stops the workers and, if err is nil, gives the tree its contents.
func (r *receiver) finish(err error) error {
	r.stop()
	if err != nil {
		return errors.Join(err, r.w.Abort())
	}
	if err := r.w.Commit(); err != nil {
		return err
	}
	for i, f := range r.done {
		r.t.Set(i, f.entry, f.content)
	}
	return nil
}

func (r *receiver) abort() error {
	r.stop()
	return r.w.Abort()
}

// stop waits for the frame that is being taken, and for the workers.
func (r *receiver) stop() {
	r.taking.Lock()
	r.stopped = true
	close(r.work)
	r.taking.Unlock()
	r.workers.Wait()
}

// remember makes what is known after t was loaded by r: the entries of t, of which those count that
// came now or were known before. If t is not the whole, the rest is taken over.
func remember(old *known, t *tree.Tree, r *receiver, complete bool) *known {
	k := &known{}
	j := 0
	before := func(path string) { // takes over what comes before path
		for ; j < len(old.entries) && (path == "" || session.ComparePaths(old.entries[j].Path, path) < 0); j++ {
			if !complete {
				k.entries, k.settled = append(k.entries, old.entries[j]), append(k.settled, old.settled[j])
			}
		}
	}
	for i := range t.Entries {
		e := t.Entries[i]
		before(e.Path)
		known := j < len(old.entries) && old.entries[j].Path == e.Path
		settled := false
		switch f, ok := r.done[i]; {
		case ok:
			settled = f.settled
		case known && same(&old.entries[j].Entry, &e.Entry):
			e.Sum, settled = old.entries[j].Sum, old.settled[j]
		}
		if known {
			j++
		}
		k.entries, k.settled = append(k.entries, e), append(k.settled, settled)
	}
	before("")
	return k
}
