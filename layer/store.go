package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/bootid"
	"github.com/berth-engine/berth/internal/deeptree"
	"github.com/berth-engine/berth/layer/erofs"
)

// Options say where a Store lives.
type Options struct {
	// Root is the directory of layer files and records; made where it is missing. One engine at a
	// time may have it.
	Root string
	// ExecRoot is the directory below which layers are mounted; made (mode 0700) where it is missing.
	ExecRoot string
	// Form is the storage form.
	Form Form
	// Restore gives another copy of a layer's tar, for one that is damaged, which is compared with diffID; the
	// error is errdefs.ErrNotFound where there is none. The caller closes it. It must not call the Store. nil:
	// there never is one.
	Restore func(ctx context.Context, diffID digest.Digest) (io.ReadCloser, error)
	// Log is told of layers that were damaged. nil: nobody is.
	Log *slog.Logger
	// Limits bound what a tar can make of a layer. The zero value are erofs.DefaultLimits.
	Limits erofs.Limits
}

// Store is a set of layers on disk, and their mounts. All its methods may be called concurrently.
//
// On disk, below Root: layers/ (files and records), derived/ (layer files made of several layers,
// which can be made again), unpacked/ (directory form only), tmp/ (what is not finished, or not yet
// deleted). Below ExecRoot: mounts/NAME for each file that is mounted, and empty directories.
type Store struct {
	files, derived, unpacked, tmp string    // directories below Root
	mounts                        string    // directory below ExecRoot
	empty                         [2]string // directories below ExecRoot in which nothing is
	limits                        erofs.Limits
	restore                       func(context.Context, digest.Digest) (io.ReadCloser, error)
	log                           *slog.Logger
	forms                         *forms
	overlay                       *overlay

	// mu guards the maps and what they say of pins. It is taken last, and never held while the disk
	// or the kernel is waited for.
	mu      sync.Mutex
	records map[digest.Digest]record // guarded by mu; of layers that were read before
	lowers  map[string]*lower        // guarded by mu; by name of object, never deleted from
	tops    map[digest.Digest]string // guarded by mu; ChainID → name of the object on top, "" = none

	adopted adoption
	boot    func() (string, error) // the id of this boot

	background sync.WaitGroup
	stop       context.CancelFunc // ends what runs in the background
}

// Open opens the store, makes its directories and sweeps what a killed engine left half-written.
// It mounts nothing and asks the kernel nothing. ctx is for Open only. The caller closes the store.
func Open(ctx context.Context, o Options) (*Store, error) {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, fmt.Errorf("open the layer store: %w", err)
	}
	execRoot, err := filepath.Abs(o.ExecRoot)
	if err != nil {
		return nil, fmt.Errorf("open the layer store: %w", err)
	}
	s := &Store{
		files:    filepath.Join(root, "layers"),
		derived:  filepath.Join(root, "derived"),
		unpacked: filepath.Join(root, "unpacked"),
		tmp:      filepath.Join(root, "tmp"),
		mounts:   filepath.Join(execRoot, "mounts"),
		empty:    [2]string{filepath.Join(execRoot, "empty"), filepath.Join(execRoot, "void")},
		limits:   o.Limits.WithDefaults(),
		restore:  o.Restore,
		log:      o.Log,
		records:  map[digest.Digest]record{},
		lowers:   map[string]*lower{},
		tops:     map[digest.Digest]string{},
		boot:     sync.OnceValues(bootid.Read),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.forms, err = newForms(o.Form, s.unpacked, s.tmp); err != nil {
		return nil, err
	}
	s.overlay = &overlay{scratch: s.mounts, most: maxLowers}
	for _, dir := range []string{s.files, s.derived, s.unpacked, s.tmp, execRoot, s.mounts, s.empty[0], s.empty[1]} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open the layer store: %w", err)
		}
	}
	if err := os.Chmod(execRoot, 0o700); err != nil {
		return nil, fmt.Errorf("open the layer store: %w", err)
	}
	for _, sweep := range []func() error{
		func() error { return s.sweep(s.files) },
		func() error { return s.sweep(s.derived) },
		s.sweepDerived,
		s.sweepUnpacked,
		ctx.Err,
	} {
		if err := sweep(); err != nil && !errors.Is(err, unix.EROFS) { // a read-only disk still serves what is whole
			return nil, fmt.Errorf("sweep the layer store at %s: %w", root, err)
		}
	}
	return s, s.emptyTmp(ctx)
}

// Close unmounts the layers that no stack pins and waits for work in the background. The others stay
// mounted (their containers go on) and are found again by the next Open on the same exec root.
func (s *Store) Close() error {
	s.stop()
	s.background.Wait()
	_, err := s.releaseIdle()
	return err
}

// emptyTmp deletes in the background what is in tmp now. Names in tmp are never used twice, so that
// what comes later is left alone.
func (s *Store) emptyTmp(ctx context.Context) error {
	names, err := os.ReadDir(s.tmp)
	if err != nil {
		return err
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx)) // until Close
	s.background.Go(func() {
		for _, e := range names {
			if ctx.Err() != nil {
				return
			}
			_ = deeptree.RemoveContext(ctx, filepath.Join(s.tmp, e.Name())) // the next Open tries again
		}
	})
	return nil
}

// discard moves path to tmp, from where the next emptyTmp deletes it. It is atomic and quick.
func (s *Store) discard(path string) error {
	dir, err := os.MkdirTemp(s.tmp, "discarded-*")
	if err != nil {
		return err
	}
	return os.Rename(path, filepath.Join(dir, filepath.Base(path)))
}

// sweepUnpacked discards unpacked directories whose layer is gone.
func (s *Store) sweepUnpacked() error {
	entries, err := os.ReadDir(s.unpacked)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, dir := range []string{s.files, s.derived} {
			_, err = os.Lstat(filepath.Join(dir, e.Name()+recordSuffix))
			if !errors.Is(err, os.ErrNotExist) {
				break
			}
		}
		if errors.Is(err, os.ErrNotExist) {
			err = s.discard(filepath.Join(s.unpacked, e.Name()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
