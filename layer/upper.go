package layer

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/internal/deeptree"
)

// Upper is the writable directory of one container or build step. Its methods follow no link out of
// it and open nothing but regular files and directories.
type Upper struct {
	dir string
	id  string // of this value, for uppers that are made on it

	mu     sync.Mutex
	on     *foundation   // guarded by mu; what it was first mounted on, nil if not by this engine
	became digest.Digest // guarded by mu
}

// foundation is what an upper was made on.
type foundation struct {
	chain  digest.Digest
	uppers []*Upper // the lowest first
}

// On disk: dir/upper and dir/work are overlayfs's; dir/base is a symbolic link whose target names what
// the upper was first mounted on and, after a blank, the boot during which it was mounted volatile.
const (
	upperName = "upper"
	workName  = "work"
	baseName  = "base"
)

// rootMode is that of the root of every layer and every container: overlayfs shows that of the upper.
const rootMode = 0o755

// NewUpper makes dir (which must not exist; its parent must) an upper: dir/upper and dir/work for
// overlayfs, on a file system that can hold overlay's uppers.
func (s *Store) NewUpper(dir string) (*Upper, error) {
	u := newUpper(dir)
	for _, d := range []string{dir, u.upper(), u.work()} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, s.diskError("make a writable layer", err)
		}
	}
	if err := os.Chmod(u.upper(), rootMode); err != nil { // whatever the umask
		return nil, fmt.Errorf("make a writable layer: %w", err)
	}
	return u, nil
}

// OpenUpper opens what NewUpper made. The error is errdefs.ErrNotFound where there is none.
func (s *Store) OpenUpper(dir string) (*Upper, error) {
	for _, name := range []string{upperName, workName} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) || err == nil && !info.IsDir() {
			return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("%s is not a writable layer: it has no directory %q", dir, name))
		}
		if err != nil {
			return nil, fmt.Errorf("open a writable layer: %w", err)
		}
	}
	return newUpper(dir), nil
}

func newUpper(dir string) *Upper { return &Upper{dir: dir, id: rand.Text()} }

// Dir is the directory that NewUpper made.
func (u *Upper) Dir() string { return u.dir }

func (u *Upper) upper() string { return filepath.Join(u.dir, upperName) }
func (u *Upper) work() string  { return filepath.Join(u.dir, workName) }

// Became says that the upper's content is the layer diffID, so that uppers made on it are also at
// home on stacks that have the layer in its place.
func (u *Upper) Became(diffID digest.Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.became = diffID
}

func (u *Upper) layer() digest.Digest {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.became
}

// noLayers names an empty stack as a base.
const noLayers = "nothing"

// base names what the upper was first mounted on, "" where it never was.
func (u *Upper) base() string {
	u.mu.Lock()
	on := u.on
	u.mu.Unlock()
	if on != nil {
		return baseOf(on.chain, on.uppers)
	}
	base, _, _ := u.mark()
	return base
}

// standing names what the upper was made on, "" where it never was, and what it is to lie on. An upper
// below may become a layer between the two looks, which changes both names: then they are looked at again.
func (u *Upper) standing(chain digest.Digest, uppers []*Upper) (made, here string) {
	for {
		made, here = u.base(), baseOf(chain, uppers)
		if made == here || made == u.base() {
			return made, here
		}
	}
}

// mark reads what the upper's directory says of it. Both are "" where nothing does: it was never mounted.
func (u *Upper) mark() (base, boot string, err error) {
	target, err := os.Readlink(filepath.Join(u.dir, baseName))
	if errors.Is(err, os.ErrNotExist) {
		return "", "", nil
	}
	base, boot, _ = strings.Cut(target, " ")
	return base, boot, err
}

// setMark replaces it.
func (u *Upper) setMark(base, boot string) error {
	if boot != "" {
		base += " " + boot
	}
	path := filepath.Join(u.dir, baseName)
	err := os.Symlink(base, path)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := errors.Join(removed(path+".new"), os.Symlink(base, path+".new")); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// baseOf names layers with uppers on them. An upper that has become a layer counts as that, so that
// the name is the same when the layer takes its place.
func baseOf(chain digest.Digest, uppers []*Upper) string {
	for len(uppers) > 0 && uppers[0].layer() != "" {
		chain, uppers = chainOn(chain, uppers[0].layer()), uppers[1:]
	}
	name := noLayers
	if chain != "" {
		name = chain.String()
	}
	for _, u := range uppers {
		name += "+" + u.id
	}
	return name
}

// mount mounts the upper on st's lower layers, which m has.
func (u *Upper) mount(st *Stack, m overlayMount) (_ *os.File, err error) {
	defer func() {
		if err != nil && !errdefs.IsFailedPrecondition(err) {
			err = fmt.Errorf("mount the writable layer %s: %w", u.dir, err)
		}
	}()
	if m.upper, err = openRoot(u.upper()); err != nil {
		return nil, err
	}
	defer m.upper.Close()
	if m.work, err = openRoot(u.work()); err != nil {
		return nil, err
	}
	defer m.work.Close()
	boot := ""
	if m.volatile {
		if boot, err = st.s.boot(); err != nil {
			return nil, err
		}
	}
	if err := u.claim(st, boot); err != nil {
		return nil, err
	}
	return st.s.mountOverlay(m)
}

// claim makes st what the upper belongs to, or refuses where it belongs to another. boot is the id of
// this boot where the upper is going to be mounted volatile, else "".
func (u *Upper) claim(st *Stack, boot string) error {
	made, here := u.standing(st.chain, st.uppers)
	if made == "" {
		if err := u.setMark(here, boot); err != nil {
			return err
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.on = &foundation{chain: st.chain, uppers: st.uppers}
		return nil
	}
	if made != here {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the writable layer %s was made on %s, it cannot be mounted on %s", u.dir, made, here))
	}
	marked, then, err := u.mark()
	if err != nil {
		return err
	}
	if err := u.trust(st.s, then); err != nil || then == boot || boot == "" {
		return err
	}
	return u.setMark(marked, boot)
}

// trust refuses an upper that was mounted volatile when the machine went down: what it holds may never
// have reached the disk (overlayfs.rst, "Volatile mount"). After a volatile mount of this boot,
// overlayfs's mark, which is there for good, is taken away.
func (u *Upper) trust(s *Store, then string) error {
	mark := filepath.Join(u.work(), "work", "incompat", "volatile")
	if _, err := os.Lstat(mark); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	now, err := s.boot()
	if err != nil {
		return err
	}
	if then != now {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the writable layer %s was in use without syncs when the machine went down: its content cannot be trusted", u.dir))
	}
	return os.RemoveAll(filepath.Dir(mark))
}

// DiffOptions are what a diff leaves out.
type DiffOptions struct {
	// MountPoints are paths (in the container, absolute) that the engine made in order to mount on
	// them. Where the stack below has none of the name and the upper's is still empty, it is left
	// out, and so are the directories above that were made for it, and those where nothing else
	// changed; else their times are put back.
	MountPoints []string
}

// made is the set of clean paths that were made for the mount points.
func (o DiffOptions) made() map[string]bool {
	set := map[string]bool{}
	for _, p := range o.MountPoints {
		for p = strings.TrimPrefix(path.Clean("/"+p), "/"); p != "" && !set[p]; p = dirOf(p) {
			set[p] = true
		}
	}
	return set
}

// diff opens the upper beside a view of st and calls use with the tree of what differs.
func (u *Upper) diff(ctx context.Context, st *Stack, o DiffOptions, use func(*diff, *node) error) error {
	view, err := st.Mount(ctx, nil, MountOptions{})
	if err != nil {
		return err
	}
	defer view.Close()
	upper, err := openRoot(u.upper())
	if err != nil {
		return err
	}
	defer upper.Close()
	d := &diff{upper: upper, below: view, made: o.made(), tick: clockTick(), most: st.s.limits}
	root, err := d.scan(ctx)
	if err != nil {
		return err
	}
	d.prune(root)
	return use(d, root)
}

// Settle brings the upper to what its layer will say: whole-second times, no sockets, no attributes
// of overlayfs but the ones that hide something below, no mount points. It must be unmounted, and st
// the stack that it was mounted on.
func (u *Upper) Settle(ctx context.Context, st *Stack, o DiffOptions) error {
	if err := u.belongs(st); err != nil {
		return err
	}
	err := u.diff(ctx, st, o, func(d *diff, root *node) error { return d.settle(ctx, root) })
	if err != nil {
		return fmt.Errorf("settle the writable layer %s: %w", u.dir, err)
	}
	return nil
}

// belongs refuses a stack that the upper was not made on: what it hides would be another's.
func (u *Upper) belongs(st *Stack) error {
	if made, here := u.standing(st.chain, st.uppers); made != "" && made != here {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the writable layer %s was made on %s, not on %s", u.dir, made, here))
	}
	return nil
}

// WriteTar writes the upper as a layer's tar: sorted, PAX, whole-second times, whiteouts as ".wh."
// files, opaque marks only for directories that st has too. Equal uppers give equal bytes. It changes
// nothing in the upper, which may be mounted and in use: a file that grows meanwhile is cut at the
// size that it had, one that shrinks is filled with zeros.
func (u *Upper) WriteTar(ctx context.Context, st *Stack, w io.Writer, o DiffOptions) error {
	if err := u.belongs(st); err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	err := u.diff(ctx, st, o, func(d *diff, root *node) error { return d.writeTar(ctx, root, tw) })
	if err == nil {
		err = tw.Close()
	}
	if err != nil {
		return fmt.Errorf("write the layer of %s: %w", u.dir, err)
	}
	return nil
}

// ChangeKind is the letter of `docker diff`.
type ChangeKind byte

// What can have happened to a path.
const (
	Added   ChangeKind = 'A'
	Changed ChangeKind = 'C'
	Deleted ChangeKind = 'D'
)

// Change is one path in which an upper differs from the stack below.
type Change struct {
	Path string // absolute
	Kind ChangeKind
}

// Changes lists in which paths the upper differs from st, sorted by path, as `docker diff` does. The
// upper may be in use.
func (u *Upper) Changes(ctx context.Context, st *Stack, o DiffOptions) (list []Change, err error) {
	if err := u.belongs(st); err != nil {
		return nil, err
	}
	err = u.diff(ctx, st, o, func(d *diff, root *node) error {
		list, err = d.changes(ctx, root)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("compare the writable layer %s: %w", u.dir, err)
	}
	return list, nil
}

// Size is the sum of the sizes in bytes of the regular files in the upper, hard links counted once,
// however many and however deep they are. The upper may be in use.
func (u *Upper) Size(ctx context.Context) (int64, error) {
	size := deeptree.Size(ctx, u.upper())
	if ctx.Err() != nil {
		return 0, fmt.Errorf("size of the writable layer %s: %w", u.dir, context.Cause(ctx))
	}
	return size, nil
}

// Destroy deletes the upper's directory, whatever of it is there. It is idempotent. The upper must be
// unmounted.
func (u *Upper) Destroy() error {
	if err := deeptree.Remove(u.dir); err != nil {
		return fmt.Errorf("delete the writable layer %s: %w", u.dir, err)
	}
	return nil
}
