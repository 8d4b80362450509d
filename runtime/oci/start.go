package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/runtime/script"
)

func (p *program) start(args []string) (int, error) {
	rest, err := parse(args, nil)
	if err != nil {
		return 1, err
	}
	id, err := one(rest)
	if err != nil {
		return 1, err
	}
	c, err := p.find(id)
	if err != nil {
		return 1, err
	}
	if s := c.status(); s != specs.StateCreated {
		return 1, fmt.Errorf("container %q is %s: only a created one can be started", id, s)
	}
	if err := c.letGo(); err != nil {
		return 1, explain(id, err)
	}
	return 0, c.poststart()
}

// letGo lets the child execute its program and waits until it has, or has failed to.
func (c *container) letGo() error {
	done, err := os.OpenFile(filepath.Join(c.dir, doneFIFO), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer done.Close()
	// the FIFO goes first: whoever removes it starts the container, and nobody else
	fd, err := unix.Open(filepath.Join(c.dir, startFIFO), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("its process does not wait: %w", err)
	}
	defer unix.Close(fd)
	if err := os.Remove(filepath.Join(c.dir, startFIFO)); err != nil {
		return fmt.Errorf("it was started by somebody else: %w", err)
	}
	if _, err := unix.Write(fd, []byte{1}); err != nil {
		return fmt.Errorf("its process does not wait: %w", err)
	}
	// the end of file comes when the child's writing end closes: at execve, or with it
	if _, err := done.Read(make([]byte, 1)); err == nil {
		return errors.New("its process answers")
	}
	f, err := os.Open(filepath.Join(c.dir, scriptFile))
	if err != nil {
		return err
	}
	defer f.Close()
	failure, err := script.ReadFailure(f)
	if failure != nil {
		return failure
	}
	return errors.Join(err, removeAll(c.dir, doneFIFO, scriptFile))
}

func removeAll(dir string, names ...string) error {
	var errs []error
	for _, n := range names {
		if err := os.Remove(filepath.Join(dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
