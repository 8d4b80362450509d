package solver

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/buildkit/solver/pb"

	"github.com/berth-engine/berth/internal/deeptree"
)

// CacheMount is the directory of a RUN --mount=type=cache.
type CacheMount struct {
	Dir   string // its name below the solver's directory
	Name  string // its id in the Dockerfile
	Bytes int64  // of what could be read
	InUse bool
	Used  time.Time
}

// CacheMounts lists the cache mounts that are there, one that can't be read all the same.
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
		m.Bytes = deeptree.Size(ctx, dir)
		out = append(out, m)
	}
	return out, ctx.Err()
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
		dir := filepath.Join(s.mounts.dir, m.Dir)
		_ = os.Rename(filepath.Join(dir, "data"), filepath.Join(dir, "old")) // nobody mounts half of it (a full disk may have no room for the name)
		err := deeptree.RemoveContext(ctx, dir)
		use.release()
		if err != nil {
			s.opts.Log.Warn("a cache mount could not be deleted", "id", m.Name, "error", err)
			continue
		}
		freed += m.Bytes
	}
	return freed, ctx.Err()
}
