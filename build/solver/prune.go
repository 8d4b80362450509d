package solver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/buildkit/solver/pb"
)

// CacheMount is the directory of a RUN --mount=type=cache.
type CacheMount struct {
	Dir   string // its name below the solver's directory
	Name  string // its id in the Dockerfile
	Bytes int64  // of what could be read
	InUse bool
	Used  time.Time
}

// CacheMounts lists the cache mounts that are there. One that can't be read, or is too deep for a path,
// is listed all the same.
func (s *Solver) CacheMounts(ctx context.Context) ([]CacheMount, error) {
	entries, err := os.ReadDir(s.mounts.dir)
	if err != nil {
		return nil, err
	}
	var out []CacheMount
	for _, e := range entries {
		dir := filepath.Join(s.mounts.dir, e.Name())
		m := CacheMount{Dir: e.Name(), InUse: s.mounts.inUse(e.Name())}
		if name, err := os.ReadFile(filepath.Join(dir, "name")); err == nil {
			m.Name = string(name)
		}
		if info, err := os.Stat(filepath.Join(dir, "name")); err == nil {
			m.Used = info.ModTime()
		}
		if m.Bytes, err = sizeOf(ctx, dir); ctx.Err() != nil {
			return nil, ctx.Err()
		} else if err != nil {
			s.opts.Log.Warn("the size of a cache mount is not all that is in it", "id", m.Name, "error", err)
		}
		out = append(out, m)
	}
	return out, nil
}

// sizeOf sums up the files below dir, following no link. What goes meanwhile is left out; what can't be
// read, too: then there is an error, and the size of the rest.
func sizeOf(ctx context.Context, dir string) (n int64, err error) {
	var first error
	missed := func(err error) {
		if first == nil && !errors.Is(err, fs.ErrNotExist) {
			first = err
		}
	}
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			missed(err)
			return nil
		}
		if !e.Type().IsRegular() {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			missed(err)
			return nil
		}
		n += info.Size()
		return nil
	})
	if err == nil {
		err = first
	}
	return n, err
}

func (c *cacheMounts) inUse(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.locks[key] != nil && c.locks[key].users > 0
}

// PruneCacheMounts deletes cache mounts that nobody uses and that were last used before the given time,
// and returns the bytes freed. One that can't be deleted stays, and is logged.
func (s *Solver) PruneCacheMounts(ctx context.Context, before time.Time) (int64, error) {
	mounts, err := s.CacheMounts(ctx)
	if err != nil {
		return 0, err
	}
	var freed int64
	for _, m := range mounts {
		if ctx.Err() != nil {
			break
		}
		if !m.Used.Before(before) {
			continue
		}
		use, _ := s.mounts.try(m.Dir, pb.CacheSharingOpt_LOCKED)
		if use == nil { // somebody uses it
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.mounts.dir, m.Dir)); err != nil {
			s.opts.Log.Warn("a cache mount could not be deleted", "id", m.Name, "error", err)
		} else {
			freed += m.Bytes
		}
		use.release()
	}
	return freed, ctx.Err()
}
