package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/deeptree"
	"golang.org/x/sys/unix"
)

// Store keeps records and says where a container's files are:
//
//	DATA/ID/record       a container that outlives the machine's uptime
//	DATA/ID/upper, work  its writable layer (also of a --rm container)
//	DATA/ID/log…         its log
//	EXEC/ID/record       a --rm container
//	EXEC/ID/…            the shim's socket and exit record, hosts, resolv.conf, hostname
//
// DATA/.reserve holds room on the disk for states that change when it is full.
type Store struct {
	data, exec string
	reserve    *atomicfile.Reserve
}

// reserveSize is for many times the longest record, in bytes.
const reserveSize = 256 << 10

// OpenStore makes both directories where they are missing.
func OpenStore(data, exec string) (*Store, error) {
	for _, dir := range []string{data, exec} {
		if err := os.MkdirAll(dir, 0o710); err != nil {
			return nil, fmt.Errorf("container store: %w", err)
		}
	}
	s := &Store{data, exec, atomicfile.NewReserve(filepath.Join(data, ".reserve"), reserveSize)}
	_ = s.reserve.Fill() // a disk that is full, or read-only, still serves; Discard tries again
	return s, nil
}

// DataDir is the container's directory on disk.
func (s *Store) DataDir(id string) string { return filepath.Join(s.data, id) }

// ExecDir is the container's directory for what only matters while the machine is up.
func (s *Store) ExecDir(id string) string { return filepath.Join(s.exec, id) }

func (s *Store) path(r *Record) string {
	if r.Config.AutoRemove {
		return filepath.Join(s.ExecDir(r.ID), "record")
	}
	return filepath.Join(s.DataDir(r.ID), "record")
}

// Make claims an ID by making its directories; where one is there already, nothing is made. Destroy
// removes them.
func (s *Store) Make(id string) error {
	if err := os.Mkdir(s.DataDir(id), 0o710); err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	if err := os.Mkdir(s.ExecDir(id), 0o710); err != nil {
		return fmt.Errorf("create container: %w", errors.Join(err, os.Remove(s.DataDir(id))))
	}
	return nil
}

// Save writes a record; the directories are there.
func (s *Store) Save(r *Record, d atomicfile.Durability) error {
	return s.save(r, d, atomicfile.WriteRecord)
}

// SaveState writes the record of a container whose state has changed, on a full disk too.
func (s *Store) SaveState(r *Record, d atomicfile.Durability) error {
	return s.save(r, d, s.reserve.ReplaceRecord)
}

func (s *Store) save(r *Record, d atomicfile.Durability, write func(string, any, atomicfile.Durability) error) error {
	if r.Config.AutoRemove { // on another file system than the reserve
		d, write = atomicfile.Volatile, atomicfile.WriteRecord
	}
	path := s.path(r)
	if err := os.MkdirAll(filepath.Dir(path), 0o710); err != nil { // the exec root goes with a reboot
		return err
	}
	return write(path, r, d)
}

// Destroy removes all that a container has on disk, whatever is there of it. It is idempotent.
func (s *Store) Destroy(id string) error {
	return errors.Join(s.unname(id), deeptree.Remove(s.DataDir(id)), os.RemoveAll(s.ExecDir(id)))
}

// Discard is Destroy, but for the data on disk, which is moved to TRASH/ID: deleting it can take time,
// and is the caller's. It is idempotent.
func (s *Store) Discard(id, trash string) error {
	defer func() { _ = s.reserve.Fill() }() // of what this gave back
	if err := errors.Join(s.unname(id), os.RemoveAll(s.ExecDir(id))); err != nil {
		return err
	}
	err := os.MkdirAll(trash, 0o700)
	if err == nil {
		err = os.Rename(s.DataDir(id), filepath.Join(trash, id))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT): // not even for a name: what is deleted gives some
		return deeptree.Remove(s.DataDir(id))
	}
	return err
}

// unname unlinks the record: what remains is nobody's. A --rm container's is on no disk, and costs no
// sync.
func (s *Store) unname(id string) error {
	var errs []error
	for _, dir := range []string{s.DataDir(id), s.ExecDir(id)} {
		err := os.Remove(filepath.Join(dir, "record"))
		if err == nil && dir == s.DataDir(id) {
			err = atomicfile.SyncDir(dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Load reads every record. strays are the IDs of directories without one: containers whose creation
// or removal was cut short, or --rm ones of before a reboot. A damaged record is an error beside the
// others, and its container is no stray.
func (s *Store) Load() (records []*Record, strays []string, err error) {
	seen := map[string]bool{}
	var broken []error
	for _, root := range []string{s.data, s.exec} {
		entries, err := os.ReadDir(root)
		if err != nil {
			return nil, nil, fmt.Errorf("container store: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			known := seen[e.Name()]
			r := &Record{}
			switch err := atomicfile.ReadRecord(filepath.Join(root, e.Name(), "record"), r); {
			case err == nil:
				records = append(records, r)
				seen[e.Name()] = true
			case errors.Is(err, fs.ErrNotExist):
				seen[e.Name()] = known
			default:
				broken = append(broken, err)
				seen[e.Name()] = true
			}
		}
	}
	for id, known := range seen {
		if !known {
			strays = append(strays, id)
		}
	}
	return records, strays, errors.Join(broken...)
}
