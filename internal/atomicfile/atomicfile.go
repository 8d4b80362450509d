// Package atomicfile replaces small files so that a reader, or a restart after power loss, finds the
// old content or the new one, never a part. Records carry a checksum, so that a damaged file is
// noticed and damages one thing only.
package atomicfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrDamaged is wrapped by ReadRecord where a file's content does not match its checksum.
var ErrDamaged = errors.New("damaged record")

// Durability says whether a write waits for the disk.
type Durability bool

// What must survive power loss is Durable; what only matters while the machine is up is Volatile.
const (
	Durable  Durability = true
	Volatile Durability = false
)

// Write replaces path by data. With Durable, file and directory are synced before it returns.
func Write(path string, data []byte, mode fs.FileMode, d Durability) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if d {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	_ = f.Close() // written, synced and in place: nothing that close could still report matters
	if d {
		return SyncDir(dir)
	}
	return nil
}

// SyncDir makes the names in dir durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// WriteRecord replaces path by the JSON of v and a checksum of it: one line of JSON, then
// "sha256:HEX" and a newline.
func WriteRecord(path string, v any, d Durability) error {
	b, err := encode(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return Write(path, b, 0o600, d)
}

// encode returns the content of a record's file.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	b = append(b, "\nsha256:"...)
	return append(hex.AppendEncode(b, sum[:]), '\n'), nil
}

// ReadRecord reads into v what WriteRecord wrote. The error wraps ErrDamaged where the checksum does
// not match, fs.ErrNotExist where there is no file.
func ReadRecord(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	body, tail, ok := bytes.Cut(b, []byte("\nsha256:"))
	sum := sha256.Sum256(body)
	if !ok || string(bytes.TrimSuffix(tail, []byte("\n"))) != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("%s: %w: its checksum does not match", path, ErrDamaged)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	return nil
}
