package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Reserve is a file that holds room on a disk, for records that must be replaced when there is none left. Its methods
// may be called from several goroutines.
type Reserve struct {
	path string
	size int64
	full atomic.Bool // nothing is lacking, as far as is known
	mu   sync.Mutex  // one at a time writes into the file
}

// NewReserve returns a reserve of size bytes at path, on the file system of the records. Fill gives it its room.
func NewReserve(path string, size int64) *Reserve { return &Reserve{path: path, size: size} }

// Fill has the disk give what the reserve lacks. It costs nothing where that is nothing.
func (r *Reserve) Fill() error {
	if r.full.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fill()
}

func (r *Reserve) fill() error {
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	defer f.Close()
	held, err := holds(f)
	for want := r.size; err == nil && held < r.size; want -= r.size / 16 { // or what there is
		err = unix.Fallocate(int(f.Fd()), 0, 0, want)
		if want < r.size && err == nil {
			return &fs.PathError{Op: "allocate", Path: r.path, Err: unix.ENOSPC}
		}
		if errors.Is(err, unix.ENOSPC) && want-r.size/16 > held {
			err = nil
			continue
		}
		break
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.WriteAt(make([]byte, r.size), 0)
	}
	if err != nil {
		return &fs.PathError{Op: "allocate", Path: r.path, Err: err}
	}
	r.full.Store(true)
	return nil
}

// holds is how many bytes can be written from a file's beginning without the disk being asked for room.
func holds(f *os.File) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st.Blocks * 512, nil
}

// ReplaceRecord is WriteRecord for a record that is there already; where the disk is full, the reserve's room is used.
// The room of the record that it replaces then becomes the reserve's.
func (r *Reserve) ReplaceRecord(path string, v any, d Durability) error {
	err := WriteRecord(path, v, d)
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	b, e := encode(v)
	if e == nil {
		e = r.replace(path, b, d)
	}
	if e != nil {
		return errors.Join(err, fmt.Errorf("and not from the reserve either: %w", e))
	}
	return nil
}

func (r *Reserve) replace(path string, b []byte, d Durability) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := os.OpenFile(r.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if held, err := holds(f); err != nil || held < int64(len(b)) {
		return errors.Join(err, fmt.Errorf("it has %d bytes left, %d are needed", held, len(b)))
	}
	r.full.Store(false)
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(b))); err != nil {
		return err
	}
	if d {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := unix.Renameat2(unix.AT_FDCWD, r.path, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE); err != nil {
		return &os.LinkError{Op: "exchange", Old: r.path, New: path, Err: err}
	}
	_ = r.fill() // as far as the disk has room: else what the old record had is there for the next
	if !d {
		return nil
	}
	return errors.Join(SyncDir(filepath.Dir(path)), SyncDir(filepath.Dir(r.path)))
}
