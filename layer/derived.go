package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/deeptree"
	"github.com/berth-engine/berth/layer/erofs"
)

// derive returns the object of that name, made of the layers from: the one that is here, if it is
// whole, else a new one of the tar that fill writes. The lower of the name is held.
func (s *Store) derive(ctx context.Context, name string, from []digest.Digest, fill func(*tar.Writer) error) (object, error) {
	o := object{name: name, file: filepath.Join(s.derived, name+fileSuffix)}
	rec, err := readRecord(filepath.Join(s.derived, name+recordSuffix))
	if err == nil && rec.Version == erofs.Version && whole(o.file, rec) {
		o.rec = rec
		return o, nil
	}
	f, err := os.CreateTemp(s.tmp, "derived-*")
	if err != nil {
		return object{}, s.diskError("make "+name, err)
	}
	o.rec, err = s.writeDerived(ctx, f, fill)
	o.rec.From = from
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), o.file)
	}
	if err == nil {
		err = atomicfile.WriteRecord(filepath.Join(s.derived, name+recordSuffix), o.rec, atomicfile.Durable)
	}
	if err != nil {
		return object{}, errors.Join(s.diskError("make "+name, err), removed(f.Name()))
	}
	return o, nil
}

// whole says whether the metadata of the layer file are what the record says.
func whole(file string, rec record) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	return erofs.VerifyMetadata(f, rec.Metadata) == nil
}

// writeDerived makes f the durable layer file of what fill writes.
func (s *Store) writeDerived(ctx context.Context, f *os.File, fill func(*tar.Writer) error) (record, error) {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tw := tar.NewWriter(w)
		err := fill(tw)
		if err == nil {
			err = tw.Close()
		}
		w.CloseWithError(err) // nil: the end of the tar
	}()
	rec, err := s.write(ctx, f, r, "")
	r.Close() // so that fill ends
	<-done
	return rec, err
}

// removeDerived removes what was made of the layers ids. Like a layer it loses its record first.
func (s *Store) removeDerived(ctx context.Context, ids []digest.Digest) error {
	s.forgetTops()
	list, err := s.derivedOf(func(from []digest.Digest) bool {
		return slices.ContainsFunc(from, func(id digest.Digest) bool { return slices.Contains(ids, id) })
	})
	errs := []error{err}
	for _, name := range list {
		errs = append(errs, removed(filepath.Join(s.derived, name+recordSuffix)))
	}
	if len(list) > 0 {
		errs = append(errs, atomicfile.SyncDir(s.derived))
	}
	for _, name := range list {
		errs = append(errs, s.removeDerivedFile(ctx, name))
	}
	return errors.Join(errs...)
}

// removeDerivedFile removes file and mount. Whoever holds its lower waits for no layer, so it may be
// waited for while layers are held; and nobody pins it, because its layers would be pinned, too.
func (s *Store) removeDerivedFile(ctx context.Context, name string) error {
	low := s.lower(name)
	if err := low.acquire(ctx); err != nil {
		return err
	}
	defer low.free()
	return errors.Join(s.unmount(low), removed(filepath.Join(s.derived, name+fileSuffix)), deeptree.Remove(filepath.Join(s.unpacked, name)))
}

func (s *Store) forgetTops() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tops)
}

// derivedOf lists the names of what was made of layers that which accepts. A record that can't be read
// is taken for one: it can be made again.
func (s *Store) derivedOf(which func(from []digest.Digest) bool) ([]string, error) {
	entries, err := os.ReadDir(s.derived)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok {
			continue
		}
		rec, err := readRecord(filepath.Join(s.derived, e.Name()))
		if err != nil || which(rec.From) {
			list = append(list, name)
		}
	}
	return list, nil
}

// sweepDerived discards what was made of layers that are gone.
func (s *Store) sweepDerived() error {
	list, err := s.derivedOf(func(from []digest.Digest) bool {
		return slices.ContainsFunc(from, func(id digest.Digest) bool {
			_, err := os.Lstat(s.layerRecord(id))
			return errors.Is(err, os.ErrNotExist)
		})
	})
	if err != nil {
		return err
	}
	for _, name := range list {
		for _, suffix := range []string{recordSuffix, fileSuffix} {
			if err := s.discard(filepath.Join(s.derived, name+suffix)); err != nil {
				return err
			}
		}
	}
	return nil
}

// pinMerged returns the layers ids, bottom first, as one level. The layers themselves are pinned, too.
func (st *Stack) pinMerged(ctx context.Context, ids []digest.Digest) (level, error) {
	below, err := st.s.Stack(ctx, ids)
	if err != nil {
		return level{}, err
	}
	st.pins = append(st.pins, below.pins...) // st releases them
	name := "low-" + below.chain.Encoded()
	low, err := st.pin(ctx, name, func() (object, error) {
		return st.s.derive(ctx, name, ids, func(w *tar.Writer) error { return below.writeWhole(ctx, w) })
	})
	if err != nil {
		return level{}, err
	}
	return level{root: low.root}, nil
}

// writeWhole writes all that the stack shows as a tar.
func (st *Stack) writeWhole(ctx context.Context, w *tar.Writer) error {
	view, err := st.Mount(ctx, nil, MountOptions{})
	if err != nil {
		return err
	}
	defer view.Close()
	d := diff{upper: view, most: st.s.limits}
	root, err := d.scan(ctx)
	if err != nil {
		return fmt.Errorf("read the merged layers: %w", err)
	}
	return d.writeTar(ctx, root, w)
}
