package solver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/cache"
)

// cacheMounts are the directories of RUN --mount=type=cache. Each is a directory with the tree in it
// ("data"), and a file that says what it is for ("name").
type cacheMounts struct {
	dir string

	preparing sync.Mutex // before mu

	mu    sync.Mutex
	locks map[string]*mountLock // by directory; guarded by mu
}

// mountLock says who uses a cache mount. A waiter looks again whenever changed is closed.
type mountLock struct {
	users     int  // guarded by cacheMounts.mu
	exclusive bool // guarded by cacheMounts.mu
	changed   chan struct{}
}

// take claims a directory for a cache mount, in the given way, and returns it with its release. Of a
// private mount that is in use there is a second directory, and so on; a locked one is waited for.
func (c *cacheMounts) take(ctx context.Context, name string, sharing pb.CacheSharingOpt) (dir string, release func(), err error) {
	sum := sha256.Sum256([]byte(name))
	base := hex.EncodeToString(sum[:16])
	for n := 0; ; {
		key := base
		if n > 0 {
			key = fmt.Sprintf("%s-%d", base, n)
		}
		release, wait := c.try(key, sharing)
		if release != nil {
			return filepath.Join(c.dir, key), release, nil
		}
		if sharing == pb.CacheSharingOpt_PRIVATE {
			n++
			continue
		}
		select {
		case <-ctx.Done():
			return "", nil, ctx.Err()
		case <-wait:
		}
	}
}

func (c *cacheMounts) try(key string, sharing pb.CacheSharingOpt) (release func(), wait <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.locks[key]
	if l == nil {
		l = &mountLock{changed: make(chan struct{})}
		c.locks[key] = l
	}
	exclusive := sharing != pb.CacheSharingOpt_SHARED
	if l.users > 0 && (exclusive || l.exclusive) {
		return nil, l.changed
	}
	l.users++
	l.exclusive = exclusive
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if l.users--; l.users == 0 {
			l.exclusive = false
			if c.locks[key] == l {
				delete(c.locks, key)
			}
			close(l.changed)
			l.changed = make(chan struct{})
		}
	}), nil
}

// prepare makes the directory, with what fill puts into it when it is new.
func prepare(dir, name string, fill func(data *os.File) error) (err error) {
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		now := time.Now()
		return os.Chtimes(filepath.Join(dir, "name"), now, now) // when it was last used
	}
	if err := os.RemoveAll(dir); err != nil { // of a killed engine
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name), 0o600); err != nil {
		return err
	}
	fresh := filepath.Join(dir, "new")
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return err
	}
	data, err := os.OpenFile(fresh, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer data.Close()
	if err := fill(data); err != nil {
		return err
	}
	return os.Rename(fresh, filepath.Join(dir, "data"))
}

// cacheMount opens the tree of a cache mount, filled from its input where it is new.
func (x *exec) cacheMount(ctx context.Context, m *pb.Mount) (*os.File, error) {
	name := m.CacheOpt.GetID()
	var base cache.ID
	if m.Input >= 0 {
		var err error
		if base, err = x.in[m.Input].ID(ctx); err != nil {
			return nil, err
		}
		name += "\x00" + hex.EncodeToString(base[:])
	}
	dir, release, err := x.j.s.mounts.take(ctx, name, m.CacheOpt.GetSharing())
	if err != nil {
		return nil, err
	}
	x.undo(func() error { release(); return nil })
	err = x.j.s.mounts.once(dir, func() error {
		return prepare(dir, m.CacheOpt.GetID(), func(data *os.File) error { return x.fill(ctx, m, data) })
	})
	if err != nil {
		return nil, fmt.Errorf("cache mount %s: %w", m.Dest, err)
	}
	tree, err := cloneDir(filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	return x.part(tree, m)
}

// once has one at a time prepare a directory: shared mounts have several users.
func (c *cacheMounts) once(dir string, f func() error) error {
	c.preparing.Lock()
	defer c.preparing.Unlock()
	return f()
}

// fill copies the input into a new cache mount.
func (x *exec) fill(ctx context.Context, m *pb.Mount, data *os.File) (err error) {
	if m.Input < 0 {
		return nil
	}
	v, done, err := x.in[m.Input].read(ctx, x.v.inputs[m.Input].index)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	t := newTarget(data, x.created)
	defer func() { err = errors.Join(err, t.close()) }()
	return copyFiles(ctx, v, t, &pb.FileActionCopy{Src: "/", Dest: "/", Mode: -1, Timestamp: -1, DirCopyContents: true, CreateDestPath: true}, nil)
}
