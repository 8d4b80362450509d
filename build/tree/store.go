package tree

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/bootid"
)

// Store keeps contents by digest. Many small ones lie one after the other in a pack: writing thousands
// of files costs one file. Nothing is synced; after an unclean end of the machine the store is empty.
type Store struct {
	dir string

	mu     sync.Mutex
	loaded bool            // guarded by mu
	next   int             // number of the next pack; guarded by mu
	packs  map[int]*pack   // guarded by mu
	where  map[Sum]Content // guarded by mu
}

// pack is one file of contents. It stays readable after it was deleted.
type pack struct {
	number int
	f      *os.File
	used   time.Time // guarded by Store.mu
	size   int64     // bytes
}

const (
	packName  = "pack-"
	indexName = "index-"
	bootFile  = "boot"
)

// Open returns the store in dir, which it makes. Nothing is read before the first use.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Store{dir: dir, packs: map[int]*pack{}, where: map[Sum]Content{}}, nil
}

// Close closes the packs: no content may be read afterwards. It syncs what is there and says so, so that
// the next start of the machine finds it good.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded {
		return nil
	}
	var errs []error
	for _, p := range s.packs {
		errs = append(errs, p.f.Sync())
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, atomicfile.Write(filepath.Join(s.dir, bootFile), []byte("clean"), 0o600, atomicfile.Durable))
	}
	for _, p := range s.packs {
		errs = append(errs, p.f.Close())
	}
	s.packs, s.where, s.loaded = nil, nil, false
	return errors.Join(errs...)
}

// Ready reads the indexes of what is there, once.
func (s *Store) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready()
}

// ready needs mu held.
func (s *Store) ready() error {
	if s.loaded {
		return nil
	}
	if s.packs == nil {
		return errors.New("the store of contexts is closed")
	}
	boot, err := bootid.Read()
	if err != nil {
		return err
	}
	last, err := os.ReadFile(filepath.Join(s.dir, bootFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	trust := string(last) == "clean" || string(last) == boot
	if err := atomicfile.Write(filepath.Join(s.dir, bootFile), []byte(boot), 0o600, atomicfile.Durable); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		tail, ok := strings.CutPrefix(e.Name(), packName)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(tail)
		if err == nil && trust && s.read(n) == nil {
			s.next = max(s.next, n+1)
			continue
		}
		_ = os.Remove(filepath.Join(s.dir, e.Name())) // half-written or of an unclean end
		_ = os.Remove(filepath.Join(s.dir, indexName+tail))
	}
	s.loaded = true
	return nil
}

// read takes up pack n. It needs mu held.
func (s *Store) read(n int) error {
	index, err := os.ReadFile(filepath.Join(s.dir, indexName+strconv.Itoa(n)))
	if err != nil {
		return err
	}
	if len(index) < 4 || crc32.ChecksumIEEE(index[4:]) != binary.LittleEndian.Uint32(index) || (len(index)-4)%indexEntry != 0 {
		return errors.New("damaged")
	}
	f, err := os.Open(filepath.Join(s.dir, packName+strconv.Itoa(n)))
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	p := &pack{number: n, f: f, used: info.ModTime(), size: info.Size()}
	s.packs[n] = p
	for b := index[4:]; len(b) > 0; b = b[indexEntry:] {
		c := Content{pack: p, off: int64(binary.LittleEndian.Uint64(b[32:])), size: int64(binary.LittleEndian.Uint64(b[40:]))}
		if c.off >= 0 && c.size >= 0 && c.off+c.size <= p.size {
			s.where[Sum(b[:32])] = c
		}
	}
	return nil
}

const indexEntry = 32 + 8 + 8

// Get finds a content.
func (s *Store) Get(sum Sum) (Content, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(); err != nil {
		return Content{}, false
	}
	c, ok := s.where[sum]
	if ok {
		c.pack.used = time.Now()
	}
	return c, ok
}

// Writer puts contents into one new pack. Its methods may be called concurrently.
type Writer struct {
	s *Store
	p *pack

	mu  sync.Mutex
	end int64           // guarded by mu
	put map[Sum]Content // guarded by mu
}

// Writer begins a pack. The caller ends it with Commit or Abort.
func (s *Store) Writer() (*Writer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(); err != nil {
		return nil, err
	}
	n := s.next
	s.next++
	f, err := os.OpenFile(filepath.Join(s.dir, packName+strconv.Itoa(n)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &Writer{s: s, p: &pack{number: n, f: f, used: time.Now()}, put: map[Sum]Content{}}, nil
}

// Put stores one content.
func (w *Writer) Put(data []byte) (Sum, Content, error) {
	sum := Sum(sha256.Sum256(data))
	if c, ok := w.known(sum); ok {
		return sum, c, nil
	}
	c := Content{pack: w.p, off: w.reserve(int64(len(data))), size: int64(len(data))}
	if _, err := w.p.f.WriteAt(data, c.off); err != nil {
		return sum, c, fmt.Errorf("keep a file of the context: %w", err)
	}
	w.note(sum, c)
	return sum, c, nil
}

// PutReader stores what r gives up to its end, at most limit bytes.
func (w *Writer) PutReader(ctx context.Context, r io.Reader, size int64) (Sum, Content, error) {
	st := w.Stream(size)
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := st.Write(buf[:n]); err != nil {
				return Sum{}, Content{}, err
			}
		}
		if errors.Is(err, io.EOF) {
			return st.Finish()
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return Sum{}, Content{}, err
		}
	}
}

func (w *Writer) known(sum Sum) (Content, bool) {
	w.mu.Lock()
	c, ok := w.put[sum]
	w.mu.Unlock()
	if ok {
		return c, true
	}
	return w.s.Get(sum)
}

func (w *Writer) reserve(n int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	off := w.end
	w.end += n
	return off
}

func (w *Writer) note(sum Sum, c Content) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put[sum] = c
}

// Stream is one content that comes in pieces. It is used by one goroutine at a time.
type Stream struct {
	w    *Writer
	off  int64
	size int64
	done int64
	hash hash.Hash
}

// Stream begins a content of size bytes.
func (w *Writer) Stream(size int64) *Stream {
	return &Stream{w: w, off: w.reserve(size), size: size, hash: sha256.New()}
}

// ErrSize is wrapped where a content is not as long as was said.
var ErrSize = errors.New("not of the size that was announced")

// Write takes the next piece.
func (st *Stream) Write(p []byte) error {
	if st.done+int64(len(p)) > st.size {
		return ErrSize
	}
	if _, err := st.w.p.f.WriteAt(p, st.off+st.done); err != nil {
		return fmt.Errorf("keep a file of the context: %w", err)
	}
	st.hash.Write(p)
	st.done += int64(len(p))
	return nil
}

// Finish ends the content.
func (st *Stream) Finish() (Sum, Content, error) {
	if st.done != st.size {
		return Sum{}, Content{}, ErrSize
	}
	sum := Sum(st.hash.Sum(nil))
	if c, ok := st.w.known(sum); ok {
		return sum, c, nil
	}
	c := Content{pack: st.w.p, off: st.off, size: st.size}
	st.w.note(sum, c)
	return sum, c, nil
}

// Commit makes the contents known to others, and to the next engine.
func (w *Writer) Commit() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.put) == 0 {
		return w.abort()
	}
	index := make([]byte, 4, 4+len(w.put)*indexEntry)
	for sum, c := range w.put {
		index = append(index, sum[:]...)
		index = binary.LittleEndian.AppendUint64(index, uint64(c.off))
		index = binary.LittleEndian.AppendUint64(index, uint64(c.size))
	}
	binary.LittleEndian.PutUint32(index, crc32.ChecksumIEEE(index[4:]))
	// The last content may end in a hole of a failed stream, or short of what was reserved.
	if err := w.p.f.Truncate(w.end); err != nil {
		return errors.Join(err, w.abort())
	}
	name := filepath.Join(w.s.dir, indexName+strconv.Itoa(w.p.number))
	if err := atomicfile.Write(name, index, 0o600, atomicfile.Volatile); err != nil {
		return errors.Join(err, w.abort())
	}
	w.p.size = w.end
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.packs == nil {
		return w.p.f.Close()
	}
	w.s.packs[w.p.number] = w.p
	for sum, c := range w.put {
		w.s.where[sum] = c
	}
	return nil
}

// Abort throws the pack away. Trees that have contents of it must no longer be used.
func (w *Writer) Abort() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.abort()
}

func (w *Writer) abort() error {
	return errors.Join(os.Remove(w.p.f.Name()), w.p.f.Close())
}

// Size is the sum of the packs in bytes.
func (s *Store) Size() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(); err != nil {
		return 0, err
	}
	var n int64
	for _, p := range s.packs {
		n += p.size
	}
	return n, nil
}

// Prune deletes packs that were not used since before, the longest unused first, until at most keep
// bytes are left, and returns the bytes freed. Trees that are in use go on working.
func (s *Store) Prune(before time.Time, keep int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(); err != nil {
		return 0, err
	}
	var total, freed int64
	var old []*pack
	for _, p := range s.packs {
		total += p.size
		if p.used.Before(before) {
			old = append(old, p)
		}
	}
	sortPacks(old)
	var errs []error
	for _, p := range old {
		if total-freed <= keep {
			break
		}
		errs = append(errs, os.Remove(filepath.Join(s.dir, indexName+strconv.Itoa(p.number))), os.Remove(p.f.Name()))
		for sum, c := range s.where {
			if c.pack == p {
				delete(s.where, sum)
			}
		}
		delete(s.packs, p.number)
		freed += p.size
		// p.f stays open for trees that still read from it, until they are collected.
	}
	return freed, errors.Join(errs...)
}

// PutAll stores what r gives up to its end, of which the length is not known before.
func (w *Writer) PutAll(ctx context.Context, r io.Reader) (Sum, Content, error) {
	w.mu.Lock()
	defer w.mu.Unlock() // nobody else's content may come between
	h := sha256.New()
	off := w.end
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.p.f.WriteAt(buf[:n], w.end); err != nil {
				return Sum{}, Content{}, fmt.Errorf("keep a file: %w", err)
			}
			h.Write(buf[:n])
			w.end += int64(n)
		}
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Sum{}, Content{}, err
		}
	}
	sum := Sum(h.Sum(nil))
	c := Content{pack: w.p, off: off, size: w.end - off}
	w.put[sum] = c
	return sum, c, nil
}

// FromEntries is a tree of these entries by path, with contents in memory.
func (s *Store) FromEntries(entries map[string]Entry, data map[string][]byte) *Tree {
	list := make([]Entry, 0, len(entries))
	for _, e := range entries {
		list = append(list, e)
	}
	sortEntries(list)
	contents := map[int]Content{}
	for i := range list {
		if b, ok := data[list[i].Path]; ok {
			list[i].Sum = sha256.Sum256(b)
			contents[i] = Inline(b)
		}
	}
	return s.New(list, contents, nil)
}
