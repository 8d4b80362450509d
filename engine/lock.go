package engine

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// lock makes both roots and takes their locks: one engine at a time. The locks go with the process.
func (e *Engine) lock() error {
	for _, root := range []string{e.opts.DataRoot, e.opts.ExecRoot} {
		if !filepath.IsAbs(root) {
			return fmt.Errorf("root directory %q: must be an absolute path: %w", root, errdefs.ErrInvalidArgument)
		}
		if err := os.MkdirAll(root, 0o711); err != nil {
			return fmt.Errorf("root directory: %w", err)
		}
		f, err := openLock(filepath.Join(root, "lock"))
		if err != nil {
			return fmt.Errorf("lock %s: %w", root, err)
		}
		e.locks = append(e.locks, f)
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			if errors.Is(err, unix.EWOULDBLOCK) {
				return fmt.Errorf("%s is in use by another engine (%s); stop it, or choose another --data-root and --exec-root: %w", root, holder(f), errdefs.ErrConflict)
			}
			return fmt.Errorf("lock %s: %w", root, err)
		}
		pid := fmt.Sprintf("%d\n", os.Getpid())
		if _, err := f.WriteAt([]byte(pid), 0); err == nil { // over what is there: the disk may be full, or read-only
			_ = f.Truncate(int64(len(pid))) // only a message says it
		}
	}
	return nil
}

// openLock opens a lock's file. On a read-only disk it is there already, and can be locked as well.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) {
		return os.Open(path)
	}
	return f, err
}

func holder(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0) // what is missing is only missing in a message
	if pid := strings.TrimSpace(string(b[:n])); pid != "" {
		return "pid " + pid
	}
	return "pid unknown"
}

func fnv32(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}
