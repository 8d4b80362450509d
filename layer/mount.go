package layer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/mountinfo"
	"github.com/berth-engine/berth/layer/erofs"
)

// lower is the one mount of one layer file, and who needs it.
type lower struct {
	name string
	// held is the lock under which the file is named, mounted, unmounted, removed: a channel of one,
	// because who waits may have enough of it. It is taken before Store.mu, several in order of name.
	held chan struct{}
	// root is an O_PATH descriptor of the mounted root, nil where it is not mounted. Guarded by held,
	// and set for as long as pins > 0 after the pinning succeeded.
	root *os.File

	pins    int  // guarded by Store.mu
	mounted bool // guarded by Store.mu: root != nil
}

// acquire takes the lock.
func (l *lower) acquire(ctx context.Context) error {
	select {
	case l.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for layer %s: %w", l.name, ctx.Err())
	}
}

// free gives it back.
func (l *lower) free() { <-l.held }

// lower returns the lower of that name.
func (s *Store) lower(name string) *lower {
	s.mu.Lock()
	defer s.mu.Unlock()
	low := s.lowers[name]
	if low == nil {
		low = &lower{name: name, held: make(chan struct{}, 1)}
		s.lowers[name] = low
	}
	return low
}

// pinned says whether a stack pins low, which the caller holds.
func (s *Store) pinned(low *lower) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return low.pins > 0
}

// again pins a lower that is pinned already.
func (s *Store) again(low *lower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	low.pins++
}

// unpin gives a pin back.
func (s *Store) unpin(low *lower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	low.pins--
}

// pin sees to it that o is mounted and stays so until unpin. look returns o; it is called with the
// lower held, so that what it finds is not removed meanwhile.
func (s *Store) pin(ctx context.Context, name string, look func() (object, error)) (*lower, error) {
	low := s.lower(name)
	s.again(low) // who unmounts or removes looks at pins after it has the lock
	if err := s.ensure(ctx, low, look); err != nil {
		s.unpin(low)
		return nil, err
	}
	return low, nil
}

func (s *Store) ensure(ctx context.Context, low *lower, look func() (object, error)) error {
	if err := low.acquire(ctx); err != nil {
		return err
	}
	defer low.free()
	if low.root != nil {
		return nil
	}
	err := s.lookAndMount(ctx, low, look)
	diffID, isLayer := low.layer()
	if !isLayer || !errdefs.IsDataLoss(err) {
		return err
	}
	if err := s.heal(ctx, diffID, low, err); err != nil {
		return err
	}
	return s.lookAndMount(ctx, low, look)
}

// layer is the diffID, where it is a layer's lower and not one of something derived.
func (l *lower) layer() (digest.Digest, bool) {
	d := digest.NewDigestFromEncoded(digest.SHA256, l.name)
	return d, d.Validate() == nil
}

func (s *Store) lookAndMount(ctx context.Context, low *lower, look func() (object, error)) error {
	o, err := look()
	if err != nil {
		return err
	}
	return s.mount(ctx, low, o)
}

// mount verifies o's metadata and mounts it. low is held.
func (s *Store) mount(ctx context.Context, low *lower, o object) (err error) {
	defer func() {
		switch {
		case err == nil:
		case errdefs.IsDataLoss(err) && len(o.rec.From) == 0:
			err = errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("layer %s is damaged on the disk and is not mounted (%s): pull, load or build its image again, that replaces it",
				o.rec.DiffID, strings.TrimSuffix(err.Error(), ": "+errdefs.ErrDataLoss.Error())))
		default:
			err = fmt.Errorf("mount layer %s: %w", low.name, err)
		}
	}()
	f, err := os.Open(o.file)
	if errors.Is(err, os.ErrNotExist) {
		return errdefs.ErrDataLoss.WithMessage("its file is gone")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := erofs.VerifyMetadata(f, o.rec.Metadata); err != nil {
		return err
	}
	target := filepath.Join(s.mounts, low.name)
	if err := os.Mkdir(target, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := s.forms.mount(ctx, o, target); err != nil {
		return errors.Join(err, removed(target))
	}
	root, err := openRoot(target)
	if err != nil {
		return errors.Join(err, unmountAt(target))
	}
	s.mounting(low, root)
	return nil
}

// mounting notes that low is mounted at root, or not any more.
func (s *Store) mounting(low *lower, root *os.File) {
	low.root = root
	s.mu.Lock()
	defer s.mu.Unlock()
	low.mounted = root != nil
}

// unmount unmounts low, which is held and has no pins, if it is mounted.
func (s *Store) unmount(low *lower) error {
	if low.root == nil {
		return nil
	}
	_ = low.root.Close() // an O_PATH descriptor: nothing can be lost
	s.mounting(low, nil)
	if err := unmountAt(filepath.Join(s.mounts, low.name)); err != nil {
		return fmt.Errorf("unmount layer %s: %w", low.name, err)
	}
	return nil
}

// releaseIdle unmounts the layers that no stack pins, and returns how many. What they had in the page cache goes with
// the mount.
func (s *Store) releaseIdle() (int, error) {
	if err := s.adopt(); err != nil {
		return 0, err
	}
	var errs []error
	n := 0
	for _, low := range s.idle() {
		select {
		case low.held <- struct{}{}:
		default:
			continue // somebody is about to use it, or removes it
		}
		if low.root != nil && !s.pinned(low) {
			errs = append(errs, s.unmount(low))
			n++
		}
		low.free()
	}
	return n, errors.Join(errs...)
}

// idle lists the lowers that are mounted and that nobody pins.
func (s *Store) idle() []*lower {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*lower
	for _, low := range s.lowers {
		if low.mounted && low.pins == 0 {
			list = append(list, low)
		}
	}
	return list
}

// counts says how many lowers are mounted and pinned.
func (s *Store) counts() (mounted, pinned int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, low := range s.lowers {
		if low.mounted {
			mounted++
		}
		if low.pins > 0 {
			pinned++
		}
	}
	return mounted, pinned
}

// openRoot opens the directory at path as what overlayfs is given.
func openRoot(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// unmountAt takes away the mount at path and path itself. Whoever still uses files of it keeps them.
func unmountAt(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // not mounted
		return &os.PathError{Op: "unmount", Path: path, Err: err}
	}
	return removed(path)
}

// adoption is what a store learns once of the mounts that an earlier engine left.
type adoption struct {
	mu   sync.Mutex
	done bool // guarded by mu
}

// adopt finds the mounts that an earlier engine left below the exec root: those of layers that are
// here are used again, the others go. It reads the mount table once, before the first mount.
func (s *Store) adopt() error {
	s.adopted.mu.Lock()
	defer s.adopted.mu.Unlock()
	if s.adopted.done {
		return nil
	}
	found, err := mountsBelow(s.mounts)
	if err != nil {
		return fmt.Errorf("find mounted layers: %w", err)
	}
	var errs []error
	for _, m := range found {
		if err := s.adoptOne(m); err != nil {
			errs = append(errs, fmt.Errorf("find mounted layers: %w", err))
		}
	}
	errs = append(errs, s.sweepTargets())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.adopted.done = true
	return nil
}

// sweepTargets removes the empty directories below mounts on which nothing is mounted.
func (s *Store) sweepTargets() error {
	entries, err := os.ReadDir(s.mounts)
	if err != nil {
		return err
	}
	for _, e := range entries {
		err := removed(filepath.Join(s.mounts, e.Name()))
		if err != nil && !errors.Is(err, unix.EBUSY) { // EBUSY: a mount point
			return err
		}
	}
	return nil
}

// adoptOne takes over the mount m, or takes it away where it is not what it should be.
func (s *Store) adoptOne(m mountinfo.Mount) error {
	name := filepath.Base(m.Path)
	file := s.objectFile(name)
	if filepath.Dir(m.Path) != s.mounts || file == "" || !s.forms.made(m, file, filepath.Join(s.unpacked, name)) {
		return unmountAt(m.Path)
	}
	root, err := openRoot(m.Path)
	if err != nil {
		return err
	}
	low := s.lower(name)
	if low.root != nil { // two mounts at one place: the upper one is in use
		return root.Close()
	}
	s.mounting(low, root)
	return nil
}

// objectFile returns the file of the object of that name, "" where none of the name is here.
func (s *Store) objectFile(name string) string {
	for _, dir := range []string{s.files, s.derived} {
		if _, err := os.Lstat(filepath.Join(dir, name+recordSuffix)); err == nil {
			return filepath.Join(dir, name+fileSuffix)
		}
	}
	return ""
}

// mountsBelow lists what is mounted below dir, in the order of mounting.
func mountsBelow(dir string) ([]mountinfo.Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []mountinfo.Mount
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // an overlay of 500 layers has a long line
	for lines.Scan() {
		if m, ok := mountinfo.Parse(lines.Text()); ok && strings.HasPrefix(m.Path, dir+"/") {
			found = append(found, m)
		}
	}
	return found, lines.Err()
}
