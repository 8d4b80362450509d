package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/deeptree"
	"github.com/berth-engine/berth/layer/erofs"
)

// Put stores the layer whose uncompressed tar is read from tar, up to its end. With want, a tar that
// has another digest is refused (errdefs.ErrInvalidArgument) and nothing is kept; where want is here
// already and Check finds it good, the tar is only read and compared. One that is damaged is replaced. When Put
// returns, the layer is verified and durable.
func (s *Store) Put(ctx context.Context, tar io.Reader, want digest.Digest) (Layer, error) {
	return s.PutHeld(ctx, tar, want, func(digest.Digest) {})
}

// PutHeld is Put for a caller that must keep the layer from being removed: hold is told which it is before it is
// looked for, since the same layer may be here by somebody else, who has it removed just then.
func (s *Store) PutHeld(ctx context.Context, tar io.Reader, want digest.Digest, hold func(digest.Digest)) (Layer, error) {
	if want != "" {
		hold(want)
		switch found, err := s.Check(want); {
		case err == nil:
			return found, compare(tar, found)
		case errdefs.IsInvalidArgument(err):
			return Layer{}, err
		}
	}
	f, err := os.CreateTemp(s.tmp, "put-*")
	if err != nil {
		return Layer{}, s.diskError("store a layer", err)
	}
	rec, err := s.write(ctx, f, tar, want)
	if err == nil {
		hold(rec.DiffID)
		err = s.name(ctx, f.Name(), rec)
	}
	if err != nil {
		return Layer{}, errors.Join(s.diskError("store a layer", err), f.Close(), removed(f.Name()))
	}
	return rec.Layer, f.Close()
}

// compare reads a tar, and refuses one that is not the layer's.
func compare(tar io.Reader, l Layer) error {
	hash := l.DiffID.Algorithm().Hash()
	// one byte more than it should have is enough to tell
	_, err := io.Copy(hash, io.LimitReader(tar, l.TarSize+1))
	if err != nil {
		return fmt.Errorf("compare a layer: %w", err)
	}
	if got := digest.NewDigest(l.DiffID.Algorithm(), hash); got != l.DiffID {
		return otherContent(got, l.DiffID)
	}
	return nil
}

func otherContent(got, want digest.Digest) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the layer's content is %s, but %s was announced", got, want))
}

// write makes f the durable layer file of tar.
func (s *Store) write(ctx context.Context, f *os.File, tar io.Reader, want digest.Digest) (record, error) {
	res, err := erofs.Write(ctx, f, tar, erofs.Options{Limits: s.limits})
	if err != nil {
		return record{}, err
	}
	if want != "" && res.DiffID != want {
		return record{}, otherContent(res.DiffID, want)
	}
	if err := f.Sync(); err != nil {
		return record{}, err
	}
	// The kernel reads a mounted layer past this cache where it can (directio): what was written
	// would only lie there.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	return recordOf(res), nil
}

// name gives the synced layer file at path its name and its record, durably: data before name, and
// one sync of the directory for both.
func (s *Store) name(ctx context.Context, path string, rec record) error {
	low := s.lower(rec.DiffID.Encoded())
	if err := low.acquire(ctx); err != nil {
		return err
	}
	defer low.free()
	if _, err := s.Check(rec.DiffID); err == nil {
		return os.Remove(path) // somebody else was faster
	} else if !errdefs.IsNotFound(err) && !s.pinned(low) { // who has it mounted goes on with what was verified then
		if err := s.dismount(rec.DiffID, low); err != nil {
			return err
		}
	}
	if err := os.Rename(path, s.layerFile(rec.DiffID)); err != nil {
		return err
	}
	if err := atomicfile.WriteRecord(s.layerRecord(rec.DiffID), rec, atomicfile.Durable); err != nil {
		return errors.Join(err, removed(s.layerRecord(rec.DiffID)), removed(s.layerFile(rec.DiffID)))
	}
	s.remember(rec)
	return nil
}

// Get returns the layer. The error is errdefs.ErrNotFound where it is not here, and
// errdefs.ErrDataLoss where its record is damaged (Mend may help).
func (s *Store) Get(diffID digest.Digest) (Layer, error) {
	rec, err := s.record(diffID)
	return rec.Layer, err
}

// Check returns the layer if it can be mounted: its record is whole and its metadata are what they were when
// it was put, which costs reading them. The error is errdefs.ErrNotFound where it is not here, and
// errdefs.ErrDataLoss where it is damaged: Put then replaces it, and Mend may help.
func (s *Store) Check(diffID digest.Digest) (Layer, error) {
	o, err := s.layer(diffID)
	if err != nil {
		return Layer{}, err
	}
	f, err := os.Open(o.file)
	if errors.Is(err, fs.ErrNotExist) {
		return Layer{}, errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("layer %s: its file is gone", diffID))
	}
	if err != nil {
		return Layer{}, fmt.Errorf("check layer %s: %w", diffID, err)
	}
	defer f.Close()
	if err := erofs.VerifyMetadata(f, o.rec.Metadata); err != nil {
		return Layer{}, fmt.Errorf("check layer %s: %w", diffID, err)
	}
	return o.rec.Layer, nil
}

// DiffIDs lists the layers that there are records of, sorted; whether a record can be read is not looked at.
func (s *Store) DiffIDs() ([]digest.Digest, error) {
	entries, err := os.ReadDir(s.files) // sorted
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	var ids []digest.Digest
	for _, e := range entries {
		if hex, ok := strings.CutSuffix(e.Name(), recordSuffix); ok {
			ids = append(ids, digest.NewDigestFromEncoded(digest.SHA256, hex))
		}
	}
	return ids, nil
}

// List returns all layers, sorted by diffID. Those that cannot be read are left out and named by the
// error: a list beside an error is good as far as it goes.
func (s *Store) List() ([]Layer, error) {
	ids, err := s.DiffIDs()
	if err != nil {
		return nil, err
	}
	var layers []Layer
	var bad []error
	for _, id := range ids {
		l, err := s.Get(id)
		switch {
		case errdefs.IsNotFound(err): // removed meanwhile
		case err != nil:
			bad = append(bad, err)
		default:
			layers = append(layers, l)
		}
	}
	return layers, errors.Join(bad...)
}

// Remove deletes layers; those that are not here are no error. Where a stack pins one of them, the
// error is errdefs.ErrConflict and nothing is removed. Many at once cost one sync. When it returns, the
// layers are gone for good; the space of their files is given back shortly afterwards, at the latest
// when Close returns.
func (s *Store) Remove(ctx context.Context, diffIDs ...digest.Digest) error {
	ids := slices.Clone(diffIDs)
	slices.Sort(ids) // locks are taken in one order
	ids = slices.Compact(ids)
	for _, id := range ids {
		if err := valid(id); err != nil {
			return err
		}
	}
	if err := s.adopt(); err != nil {
		return err
	}
	lowers := make([]*lower, 0, len(ids))
	defer func() {
		for _, low := range lowers {
			low.free()
		}
	}()
	for _, id := range ids {
		low := s.lower(id.Encoded())
		if err := low.acquire(ctx); err != nil {
			return err
		}
		lowers = append(lowers, low)
		if s.pinned(low) {
			return errdefs.ErrConflict.WithMessage(fmt.Sprintf("layer %s is in use", id))
		}
	}
	return s.remove(ctx, ids, lowers)
}

// remove deletes the layers ids, whose lowers are held: first the records, durably, then the mounts
// and, in the background, the files (ext4 takes 15 ms for 50 MB). It writes nothing, so it works on a
// full disk.
func (s *Store) remove(ctx context.Context, ids []digest.Digest, lowers []*lower) error {
	for _, id := range ids {
		s.forget(id)
		if err := removed(s.layerRecord(id)); err != nil {
			return fmt.Errorf("remove layer %s: %w", id, err)
		}
	}
	if err := atomicfile.SyncDir(s.files); err != nil {
		return fmt.Errorf("remove layers: %w", err)
	}
	errs := []error{s.removeDerived(ctx, ids)}
	for _, low := range lowers {
		errs = append(errs, s.unmount(low))
	}
	s.background.Go(func() {
		for _, id := range ids {
			s.reclaim(id)
		}
	})
	return errors.Join(errs...)
}

// reclaim deletes the file of a layer that was removed, unless it has been put again meanwhile. What
// cannot be deleted has no record: the sweep of the next Open tries again.
func (s *Store) reclaim(diffID digest.Digest) {
	low := s.lower(diffID.Encoded())
	low.held <- struct{}{} // who holds it does not for long, and never waits for this
	defer low.free()
	if _, err := os.Lstat(s.layerRecord(diffID)); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	_ = errors.Join(removed(s.layerFile(diffID)), deeptree.Remove(filepath.Join(s.unpacked, diffID.Encoded())))
}

// Tar returns the layer's tar, byte for byte as it was put. The caller closes it.
func (s *Store) Tar(diffID digest.Digest) (io.ReadCloser, error) {
	rec, err := s.record(diffID)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(s.layerFile(diffID))
	if err != nil {
		return nil, fmt.Errorf("read layer %s: %w", diffID, err)
	}
	return tarFile{io.NewSectionReader(f, tarOffset, rec.TarSize), f}, nil
}

// tarOffset is where the tar begins in a layer file (package erofs).
const tarOffset = 4096

// tarFile is the tar inside an open layer file. io.Copy finds the SectionReader's methods.
type tarFile struct {
	*io.SectionReader
	io.Closer
}

// Verify reads the whole layer and compares tar and metadata with their digests. The error is
// errdefs.ErrDataLoss where one differs.
func (s *Store) Verify(ctx context.Context, diffID digest.Digest) error {
	o, err := s.layer(diffID)
	if err != nil {
		return err
	}
	f, err := os.Open(o.file)
	if err != nil {
		return fmt.Errorf("verify layer %s: %w", diffID, err)
	}
	defer f.Close()
	if err := erofs.VerifyMetadata(f, o.rec.Metadata); err != nil {
		return fmt.Errorf("verify layer %s: %w", diffID, err)
	}
	if err := erofs.VerifyTar(ctx, f, diffID); err != nil {
		return fmt.Errorf("verify layer %s: %w", diffID, err)
	}
	return nil
}

// dismount takes away what was made of a layer file that is about to be replaced. low is held, and not
// pinned.
func (s *Store) dismount(diffID digest.Digest, low *lower) error {
	s.forget(diffID)
	return errors.Join(s.unmount(low), deeptree.Remove(filepath.Join(s.unpacked, diffID.Encoded())))
}

// diskError says in one sentence that no space is left, where that is the cause.
func (s *Store) diskError(doing string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("cannot %s: no space left on the disk of %s", doing, filepath.Dir(s.files)))
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// removed removes the file at path; that there is none is no error.
func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
