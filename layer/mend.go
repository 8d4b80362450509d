package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/layer/erofs"
)

// Mend sees to it that the layer can be mounted. One whose record or metadata are damaged is made anew of
// the tar in its file or, where that is damaged too, of what Options.Restore gives. The error is
// errdefs.ErrNotFound where the layer is not here, errdefs.ErrDataLoss where nothing helped, and
// errdefs.ErrConflict where its record is damaged while a stack pins it. Of one that is mounted only the record is
// looked at: the rest was verified then.
func (s *Store) Mend(ctx context.Context, diffID digest.Digest) error {
	if err := valid(diffID); err != nil {
		return err
	}
	if err := s.adopt(); err != nil {
		return err
	}
	low := s.lower(diffID.Encoded())
	if err := low.acquire(ctx); err != nil {
		return err
	}
	defer low.free()
	var err error
	if low.root != nil {
		_, err = s.record(diffID)
	} else {
		_, err = s.Check(diffID)
	}
	if !errdefs.IsDataLoss(err) {
		return err
	}
	if low.root != nil && s.pinned(low) {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("layer %s is in use", diffID))
	}
	return s.heal(ctx, diffID, low, err)
}

// heal makes a damaged layer anew; damage is what was found. low is held, and its mount in nobody's use.
func (s *Store) heal(ctx context.Context, diffID digest.Digest, low *lower, damage error) error {
	err := s.healFrom(ctx, diffID, low, s.ownTar)
	from := "the tar in its file"
	if err != nil && s.restore != nil && ctx.Err() == nil {
		if other := s.healFrom(ctx, diffID, low, s.restore); other == nil || !errdefs.IsNotFound(other) {
			err, from = other, "another copy of its tar"
		}
	}
	switch {
	case err == nil:
		s.log.Warn("a layer was damaged on the disk and has been made anew", "layer", diffID, "damage", damage, "of", from)
		return nil
	case errdefs.IsDataLoss(err), errdefs.IsNotFound(err), errdefs.IsInvalidArgument(err): // no tar is whole
		return damage
	}
	return s.diskError(fmt.Sprintf("make layer %s, which is damaged, anew", diffID), err)
}

// healFrom replaces a layer by what is made of the tar that open gives, if that is the layer's.
func (s *Store) healFrom(ctx context.Context, diffID digest.Digest, low *lower, open func(context.Context, digest.Digest) (io.ReadCloser, error)) error {
	tar, err := open(ctx, diffID)
	if err != nil {
		return err
	}
	defer tar.Close()
	f, err := os.CreateTemp(s.tmp, "mend-*")
	if err != nil {
		return err
	}
	defer f.Close()
	rec, err := s.write(ctx, f, tar, diffID)
	if err == nil {
		err = s.dismount(diffID, low)
	}
	if err == nil {
		err = os.Rename(f.Name(), s.layerFile(diffID))
	}
	if err != nil {
		return errors.Join(err, removed(f.Name()))
	}
	return atomicfile.WriteRecord(s.layerRecord(diffID), rec, atomicfile.Durable)
}

// ownTar returns the tar in the layer's file as its record delimits it or, where the record is damaged, as the
// file's own header does.
func (s *Store) ownTar(_ context.Context, diffID digest.Digest) (io.ReadCloser, error) {
	f, err := os.Open(s.layerFile(diffID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.ErrNotFound.WithMessage("its file is gone")
	}
	if err != nil {
		return nil, err
	}
	if rec, err := readRecord(s.layerRecord(diffID)); err == nil && rec.DiffID == diffID {
		return tarFile{io.NewSectionReader(f, tarOffset, rec.TarSize), f}, nil
	}
	tar, err := erofs.Tar(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return tarFile{tar, f}, nil
}
