package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// cidFile is the file of --cidfile: made before the container is, removed when there is none. A nil
// one does nothing.
type cidFile struct {
	file    *os.File
	written bool
}

func createCIDFile(path string) (*cidFile, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("the file %s of --cidfile is already there: make sure that its container does not run, and delete it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("the file of --cidfile: %w", err)
	}
	return &cidFile{file: f}, nil
}

func (c *cidFile) write(id string) error {
	if c == nil {
		return nil
	}
	c.written = true
	if _, err := c.file.WriteString(id); err != nil {
		return fmt.Errorf("the file of --cidfile: %w", err)
	}
	return nil
}

// Close removes the file again when nothing was written.
func (c *cidFile) Close() {
	if c == nil {
		return
	}
	c.file.Close()
	if !c.written {
		os.Remove(c.file.Name())
	}
}
