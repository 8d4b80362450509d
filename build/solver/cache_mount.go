package solver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/deeptree"
)

// cacheMounts are the directories of RUN --mount=type=cache. Each is a directory with the tree in it
// ("data"), and a file that says what it is for ("name").
type cacheMounts struct {
	dir string

	mu    sync.Mutex
	locks map[string]*mountLock // by directory; guarded by mu
}

// mountLock says who uses a cache mount. A waiter looks again whenever changed is closed.
type mountLock struct {
	users     int  // guarded by cacheMounts.mu
	exclusive bool // guarded by cacheMounts.mu
	changed   chan struct{}
	preparing chan struct{} // has a value while one of the users prepares the directory
}

// cacheUse is a cache mount that somebody uses, until release.
type cacheUse struct {
	dir     string
	lock    *mountLock
	release func()
}

// takeAll claims a directory for each cache mount of a step, by name: one after the other in the order
// of their names, so that two steps never wait for each other. Nothing is claimed after an error. The
// caller does nothing while it has them that could wait for another step.
func (c *cacheMounts) takeAll(ctx context.Context, wanted map[string]*cacheMount) (_ map[string]*cacheUse, err error) {
	uses := map[string]*cacheUse{}
	defer func() {
		if err != nil {
			for _, u := range uses {
				u.release()
			}
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if uses[name], err = c.take(ctx, name, wanted[name].sharing); err != nil {
			delete(uses, name)
			return nil, err
		}
	}
	return uses, nil
}

// take claims a directory for a cache mount, in the given way. Of a private mount that is in use there
// is a second directory, and so on; a locked one is waited for.
func (c *cacheMounts) take(ctx context.Context, name string, sharing pb.CacheSharingOpt) (*cacheUse, error) {
	base := dirOf(name)
	for n := 0; ; {
		key := base
		if n > 0 {
			key = fmt.Sprintf("%s-%d", base, n)
		}
		use, wait := c.try(key, sharing)
		if use != nil {
			return use, nil
		}
		if sharing == pb.CacheSharingOpt_PRIVATE {
			n++
			continue
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wait:
		}
	}
}

// dirOf names the directory of a cache mount.
func dirOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

// try claims a directory, or gives what to wait for.
func (c *cacheMounts) try(key string, sharing pb.CacheSharingOpt) (_ *cacheUse, wait <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.locks[key]
	if l == nil {
		l = &mountLock{changed: make(chan struct{}), preparing: make(chan struct{}, 1)}
		c.locks[key] = l
	}
	exclusive := sharing != pb.CacheSharingOpt_SHARED
	if l.users > 0 && (exclusive || l.exclusive) {
		return nil, l.changed
	}
	l.users++
	l.exclusive = exclusive
	return &cacheUse{filepath.Join(c.dir, key), l, sync.OnceFunc(func() {
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
	})}, nil
}

// once has one of the users of a shared mount at a time prepare it.
func (u *cacheUse) once(ctx context.Context, f func() error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case u.lock.preparing <- struct{}{}:
	}
	defer func() { <-u.lock.preparing }()
	return f()
}

// prepare makes the directory, with what fill puts into it when it is new.
func prepare(dir, name string, fill func(data *os.File) error) (err error) {
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		now := time.Now()
		return os.Chtimes(filepath.Join(dir, "name"), now, now) // when it was last used
	}
	if err := deeptree.Remove(dir); err != nil { // of a killed engine
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

// cacheMount is what a step's cache mounts of one name are: they share a directory, as in BuildKit.
type cacheMount struct {
	id      string // of the Dockerfile
	sharing pb.CacheSharingOpt
	source  view         // what a new directory begins with; nil: nothing
	done    func() error // ends source
}

// cacheMounts opens the trees of the step's cache mounts, by their place among its mounts. What could
// make another step run, which may want the same mounts, comes before they are claimed.
func (x *exec) cacheMounts(ctx context.Context, trees []*os.File) (err error) {
	places, caches := map[int]string{}, map[string]*cacheMount{}
	defer func() {
		for _, c := range caches {
			err = errors.Join(err, c.done())
		}
	}()
	for i, m := range x.op.Mounts {
		if m.MountType != pb.MountType_CACHE || m.Dest == "/" {
			continue
		}
		name, err := x.cacheName(ctx, m)
		if err != nil {
			return err
		}
		places[i] = name
		if c := caches[name]; c != nil {
			c.sharing = stricter(c.sharing, m.CacheOpt.GetSharing())
			continue
		}
		c, err := x.newCacheMount(ctx, m)
		if err != nil {
			return err
		}
		caches[name] = c
	}
	uses, err := x.j.s.mounts.takeAll(ctx, caches)
	if err != nil {
		return err
	}
	for _, u := range uses {
		x.undo(func() error { u.release(); return nil })
	}
	for i, name := range places {
		m := x.op.Mounts[i]
		if trees[i], err = x.cacheTree(ctx, m, caches[name], uses[name]); err != nil {
			return fmt.Errorf("cache mount %s: %w", m.Dest, err)
		}
		x.owns(trees[i])
	}
	return nil
}

// cacheName is the id of a cache mount with that of what it is filled from: the same id on another base
// is another mount.
func (x *exec) cacheName(ctx context.Context, m *pb.Mount) (string, error) {
	name := m.CacheOpt.GetID()
	if m.Input < 0 {
		return name, nil
	}
	base, err := x.in[m.Input].ID(ctx)
	return name + "\x00" + hex.EncodeToString(base[:]), err
}

// stricter is how a step shares a mount that it wants in two ways.
func stricter(a, b pb.CacheSharingOpt) pb.CacheSharingOpt {
	for _, o := range []pb.CacheSharingOpt{pb.CacheSharingOpt_LOCKED, pb.CacheSharingOpt_PRIVATE} {
		if a == o || b == o {
			return o
		}
	}
	return pb.CacheSharingOpt_SHARED
}

// newCacheMount opens what a new directory begins with.
func (x *exec) newCacheMount(ctx context.Context, m *pb.Mount) (*cacheMount, error) {
	c := &cacheMount{id: m.CacheOpt.GetID(), sharing: m.CacheOpt.GetSharing(), done: func() error { return nil }}
	if m.Input < 0 {
		return c, nil
	}
	var err error
	c.source, c.done, err = x.in[m.Input].read(ctx, x.v.inputs[m.Input].index)
	return c, err
}

// cacheTree opens the tree of one of them.
func (x *exec) cacheTree(ctx context.Context, m *pb.Mount, c *cacheMount, u *cacheUse) (*os.File, error) {
	err := u.once(ctx, func() error {
		return prepare(u.dir, c.id, func(data *os.File) error { return x.fill(ctx, c.source, data) })
	})
	if err != nil {
		return nil, err
	}
	tree, err := cloneDir(filepath.Join(u.dir, "data"))
	if err != nil {
		return nil, err
	}
	return x.part(tree, m)
}

// fill copies what a new cache mount begins with.
func (x *exec) fill(ctx context.Context, source view, data *os.File) (err error) {
	if source == nil {
		return nil
	}
	t := newTarget(data, x.created)
	defer func() { err = errors.Join(err, t.close()) }()
	return copyFiles(ctx, source, t, &pb.FileActionCopy{Src: "/", Dest: "/", Mode: -1, Timestamp: -1, DirCopyContents: true, CreateDestPath: true}, nil)
}
