package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"
)

// RecordName is the record's name in the container's run-time directory.
const RecordName = "exit"

// recordSize is the size of the file, in bytes. It is written whole before the container starts: whatever is said
// later overwrites bytes that the disk has given already.
const recordSize = 4096

// Record is what a container leaves, for an engine that was not there.
type Record struct {
	Version int
	ID      string
	Shim    int    // pid of the shim, for showing
	Pid     int    // of the container's first process, for showing; 0 until it was executed
	Cgroup  string // of the container, as runtime/cgroup names it
	Started time.Time
	Exit    *ExitReport // nil: it runs, or its shim was lost
}

// RecordFile is a record that can be written.
type RecordFile struct{ f *os.File }

// CreateRecord makes the record of a container that is about to start.
func CreateRecord(dir string, r Record) (*RecordFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, RecordName), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	file := &RecordFile{f}
	if err := file.Write(r); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return file, nil
}

// OpenRecord opens the record in dir for writing: that of a container whose shim was lost.
func OpenRecord(dir string) (*RecordFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, RecordName), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &RecordFile{f}, nil
}

// Write overwrites the record, in one call.
func (file *RecordFile) Write(r Record) error {
	r.Version = Version
	b := text(r)
	b = fmt.Appendf(b, "\ncrc32:%08x\n", crc32.ChecksumIEEE(b))
	if len(b) > recordSize {
		return fmt.Errorf("container record: %d bytes, room is for %d", len(b), recordSize)
	}
	b = append(b, bytes.Repeat([]byte{'\n'}, recordSize-len(b))...)
	if _, err := file.f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("container record: %w", err)
	}
	return nil
}

// Close closes the file.
func (file *RecordFile) Close() error { return file.f.Close() }

// ErrDamagedRecord says that a record cannot be read: it was torn, or is nobody's.
var ErrDamagedRecord = errors.New("damaged container record")

// ReadRecord reads the record in dir; fs.ErrNotExist where there is none.
func ReadRecord(dir string) (Record, error) {
	b, err := os.ReadFile(filepath.Join(dir, RecordName))
	if err != nil {
		return Record{}, err
	}
	return parseRecord(b)
}

func parseRecord(b []byte) (Record, error) {
	body, rest, ok := bytes.Cut(b, []byte("\ncrc32:"))
	if !ok || len(rest) < 8 || string(rest[:8]) != fmt.Sprintf("%08x", crc32.ChecksumIEEE(body)) {
		return Record{}, ErrDamagedRecord
	}
	var r Record
	if err := json.Unmarshal(body, &r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrDamagedRecord, err)
	}
	return r, nil
}
