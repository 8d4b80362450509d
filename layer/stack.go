package layer

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Stack is a pinned list of layers that can be mounted as one file system. Until Release, its layers
// stay mounted and cannot be removed.
type Stack struct {
	s       *Store
	ids     []digest.Digest // bottom first
	chain   digest.Digest
	pins    []*lower   // what is pinned, once for each time it is here
	lowers  []*os.File // what overlayfs is given, the uppermost first: roots of pinned lowers
	uppers  []*Upper   // put on by On, the lowest first
	release sync.Once
}

// spare is how many of the lower layers that overlayfs takes are kept free, for uppers put on by On
// and for the one that a stack may get on top.
const spare = 64

// Stack pins the layers, bottom first as an image config lists them, and mounts those that are not
// mounted yet, each after its metadata has been verified. No layers at all are an empty file system.
// The error is errdefs.ErrNotFound where a layer is missing, errdefs.ErrDataLoss where one is damaged
// and can't be mended.
// The caller releases.
func (s *Store) Stack(ctx context.Context, diffIDs []digest.Digest) (_ *Stack, err error) {
	if err := s.adopt(); err != nil {
		return nil, err
	}
	st := &Stack{s: s, ids: slices.Clone(diffIDs), chain: ChainID(diffIDs)}
	defer func() {
		if err != nil {
			st.Release()
		}
	}()
	levels, err := st.pinLayers(ctx)
	if err != nil {
		return nil, err
	}
	top, err := st.pinTop(ctx, levels)
	if err != nil {
		return nil, err
	}
	if top != nil {
		st.lowers = append(st.lowers, top)
	}
	for _, l := range slices.Backward(levels) {
		// A layer that comes again lower down shows nothing that it does not show above, and overlayfs takes
		// no directory twice (ELOOP).
		if !slices.Contains(st.lowers, l.root) {
			st.lowers = append(st.lowers, l.root)
		}
		if l.rec.Opaque { // overlayfs does not look for that mark at the root of a layer
			break
		}
	}
	return st, nil
}

// pinLayers pins and mounts the layers and returns them, bottom first. Where there are more than
// overlayfs takes, the first that it returns is made of the lowest ones.
func (st *Stack) pinLayers(ctx context.Context) ([]level, error) {
	ids := st.ids
	var levels []level
	if deep := len(ids) - (st.s.overlay.max() - spare); deep > 0 {
		low, err := st.pinMerged(ctx, ids[:deep+1])
		if err != nil {
			return nil, fmt.Errorf("merge the lowest %d of %d layers: %w", deep+1, len(ids), err)
		}
		levels, ids = append(levels, low), ids[deep+1:]
	}
	for _, id := range ids {
		o, err := st.s.layer(id)
		if errdefs.IsDataLoss(err) { // what is damaged besides the record, pin finds
			if err = st.s.Mend(ctx, id); err == nil {
				o, err = st.s.layer(id)
			}
		}
		if err != nil {
			return nil, err
		}
		low, err := st.pin(ctx, o.name, func() (object, error) { return st.s.layer(id) })
		if err != nil {
			return nil, err
		}
		levels = append(levels, level{root: low.root, rec: o.rec})
	}
	return levels, nil
}

// pin pins a lower for the life of the stack.
func (st *Stack) pin(ctx context.Context, name string, look func() (object, error)) (*lower, error) {
	low, err := st.s.pin(ctx, name, look)
	if err == nil {
		st.pins = append(st.pins, low)
	}
	return low, err
}

// On returns the stack with finished uppers on top, the lowest first: steps of a build whose layers
// are not written yet. Each must be settled, unmounted and made on just what is below it here; a
// Stack on which that is not so fails to mount. It pins for itself: both stacks are to be released.
func (st *Stack) On(uppers ...*Upper) *Stack {
	on := &Stack{
		s:      st.s,
		ids:    st.ids,
		chain:  st.chain,
		pins:   st.pins,
		lowers: st.lowers,
		uppers: slices.Concat(st.uppers, uppers),
	}
	for _, low := range on.pins {
		on.s.again(low)
	}
	return on
}

// DiffIDs returns the layers, bottom first, without uppers put on by On.
func (st *Stack) DiffIDs() []digest.Digest { return slices.Clone(st.ids) }

// ChainID returns the name of the layers, without uppers put on by On.
func (st *Stack) ChainID() digest.Digest { return st.chain }

// Release unpins the layers. Mounts made of the stack go on working. A second Release does nothing.
func (st *Stack) Release() {
	st.release.Do(func() {
		for _, low := range st.pins {
			st.s.unpin(low)
		}
	})
}

// MountOptions are how a stack is mounted.
type MountOptions struct {
	// ReadOnly makes the mount read-only although it has an upper.
	ReadOnly bool
	// Volatile leaves out every sync of the upper: for containers that go with their exit (--rm) and
	// for steps of a build. After a power loss such an upper is refused.
	Volatile bool
	// No64 keeps inode numbers within 32 bits: for images of 32-bit platforms. Files and directories
	// may then differ in st_dev.
	No64 bool
}

// Mount mounts the stack, with u on top, and returns a descriptor of the detached mount: attach it
// with move_mount(2) or send it to who will. Closing the descriptor unmounts what was not attached.
// With u == nil the mount is a read-only view. An upper belongs to the stack that it was first
// mounted on: any other is refused (errdefs.ErrFailedPrecondition). Two mounts of one upper at a
// time are undefined: the caller sees to it.
func (st *Stack) Mount(ctx context.Context, u *Upper, o MountOptions) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m := overlayMount{readOnly: o.ReadOnly, volatile: o.Volatile, xino: "on"}
	if o.No64 {
		m.xino = "off"
	}
	below, err := st.openUppers()
	defer closeAll(below)
	if err != nil {
		return nil, err
	}
	m.lowers = append(m.lowers, below...)
	m.lowers = append(m.lowers, st.lowers...)
	if u != nil {
		return u.mount(st, m)
	}
	m.readOnly, m.volatile = true, false
	return st.s.mountOverlay(m)
}

// mountOverlay mounts m, with empty directories below where there are fewer than the two that overlayfs
// wants.
func (s *Store) mountOverlay(m overlayMount) (*os.File, error) {
	have := len(m.lowers)
	if m.upper != nil {
		have++
	}
	for i := have; i < 2; i++ {
		empty, err := openRoot(s.empty[i])
		if err != nil {
			return nil, err
		}
		defer empty.Close()
		m.lowers = append(m.lowers, empty)
	}
	return s.overlay.mount(m)
}

// openUppers opens the uppers put on by On, the uppermost first. It refuses the ones that were made on
// something else: with xino=on a new directory in an upper is marked as hiding what is below, which
// there would hide other layers' files.
func (st *Stack) openUppers() ([]*os.File, error) {
	dirs := make([]*os.File, 0, len(st.uppers))
	for i, u := range slices.Backward(st.uppers) {
		if made, here := u.standing(st.chain, st.uppers[:i]); made != "" && made != here {
			return dirs, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the directory %s was made on %s, it cannot lie on %s", u.dir, made, here))
		}
		dir, err := openRoot(u.upper())
		if err != nil {
			return dirs, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // O_PATH descriptors: nothing can be lost
	}
}
