package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/berth-engine/berth/internal/deeptree"
	"github.com/berth-engine/berth/layer/erofs"
)

// Info says how layers are mounted here.
type Info struct {
	// Form is the storage form in use.
	Form Form
	// DirectIO is true where the page cache holds what is read from layers once, not twice.
	DirectIO bool
	// Overlay is how lower layers are named to overlayfs: "descriptor", "lowerdir+" or "lowerdir".
	Overlay string
	// MaxLayers is the number of layers that a stack mounts as they are; the lowest of deeper ones are
	// merged.
	MaxLayers int
	// Mounted and Pinned count layers.
	Mounted, Pinned int
	// Notes say in a sentence each why a better form is not in use, and what the one in use costs.
	Notes []string
}

// Info asks the kernel what it takes (once) and returns what is in use.
func (s *Store) Info(ctx context.Context) (Info, error) {
	if err := s.probe(ctx); err != nil {
		return Info{}, fmt.Errorf("find out how layers are mounted here: %w", err)
	}
	f, refused := s.forms.used()
	info := Info{
		Form:      f.name(),
		DirectIO:  f.directIO(),
		Overlay:   s.overlay.used(),
		MaxLayers: s.overlay.max() - spare,
		Notes:     append(refused, f.notes()...),
	}
	info.Mounted, info.Pinned = s.counts()
	return info, nil
}

// probe mounts an empty layer and an overlay, where nothing has been mounted yet.
func (s *Store) probe(ctx context.Context) (err error) {
	f, _ := s.forms.used()
	if f != nil && s.overlay.used() != "" {
		return nil
	}
	if err := s.adopt(); err != nil {
		return err
	}
	file, err := os.CreateTemp(s.tmp, "probe-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), removed(file.Name())) }()
	res, err := erofs.Write(ctx, file, bytes.NewReader(make([]byte, 1024)), erofs.Options{})
	if err != nil {
		return err
	}
	target, err := os.MkdirTemp(s.mounts, "probe-*")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, unmountAt(target), deeptree.Remove(filepath.Join(s.unpacked, filepath.Base(target))))
	}()
	if err := s.forms.mount(ctx, object{name: filepath.Base(target), file: file.Name(), rec: recordOf(res)}, target); err != nil {
		return err
	}
	root, err := openRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	view, err := s.mountOverlay(overlayMount{lowers: []*os.File{root}, readOnly: true, xino: "on"})
	if err != nil {
		return err
	}
	return view.Close()
}
