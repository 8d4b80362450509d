package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/layer/erofs"
)

// record is what lies beside a layer file. Everything in it could be made anew from the file's tar.
type record struct {
	Layer
	// Version is the erofs.Version that the file was written with.
	Version int
	// Opaque: the layer hides everything below it, from its root on.
	Opaque bool `json:",omitempty"`
	// Links are hard links to what only layers below can have.
	Links []erofs.LowerLink `json:",omitempty"`
	// From are, for a derived file, the diffIDs of the layers that it was made of, bottom first.
	From []digest.Digest `json:",omitempty"`
}

func recordOf(r erofs.Result) record {
	return record{
		Layer: Layer{
			DiffID:   r.DiffID,
			TarSize:  r.TarSize,
			Size:     r.Size,
			Inodes:   r.Inodes,
			Metadata: r.MetadataDigest,
			Implied:  r.Implied,
		},
		Version: erofs.Version,
		Opaque:  r.Opaque,
		Links:   r.LowerLinks,
	}
}

// The names in a directory of layer files: NAME.erofs is the file, NAME.json its record. What has no
// record does not exist.
const (
	fileSuffix   = ".erofs"
	recordSuffix = ".json"
)

// object is a layer file that can be mounted: a layer, or something derived from several. Its name is
// unique within the store, and the name of its mount point too.
type object struct {
	name string
	file string
	rec  record
}

func (s *Store) layerFile(diffID digest.Digest) string {
	return filepath.Join(s.files, diffID.Encoded()+fileSuffix)
}

func (s *Store) layerRecord(diffID digest.Digest) string {
	return filepath.Join(s.files, diffID.Encoded()+recordSuffix)
}

// layer returns the layer as something to mount.
func (s *Store) layer(diffID digest.Digest) (object, error) {
	rec, err := s.record(diffID)
	if err != nil {
		return object{}, err
	}
	return object{name: diffID.Encoded(), file: s.layerFile(diffID), rec: rec}, nil
}

// record returns the record of a layer, from memory where it was read before.
func (s *Store) record(diffID digest.Digest) (record, error) {
	if err := valid(diffID); err != nil {
		return record{}, err
	}
	s.mu.Lock()
	rec, ok := s.records[diffID]
	s.mu.Unlock()
	if ok {
		return rec, nil
	}
	rec, err := readRecord(s.layerRecord(diffID))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return record{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("layer %s is not here", diffID))
	case errors.Is(err, atomicfile.ErrDamaged):
		return record{}, errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("layer %s: %v", diffID, err))
	case err != nil:
		return record{}, fmt.Errorf("layer %s: %w", diffID, err)
	case rec.DiffID != diffID:
		return record{}, errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("layer %s: its record is that of %s", diffID, rec.DiffID))
	}
	s.remember(rec)
	return rec, nil
}

func (s *Store) remember(rec record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[rec.DiffID] = rec
}

func (s *Store) forget(diffID digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, diffID)
}

func readRecord(path string) (record, error) {
	var rec record
	if err := atomicfile.ReadRecord(path, &rec); err != nil {
		return record{}, err
	}
	return rec, nil
}

// valid refuses what is not a sha256 digest: digests become file names.
func valid(diffID digest.Digest) error {
	if err := diffID.Validate(); err != nil || diffID.Algorithm() != digest.SHA256 {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%q is not the sha256 digest of a layer", string(diffID)))
	}
	return nil
}

// sweep discards from dir, a directory of layer files, the files that have no record, the records that
// have no file, and everything else: what a Put, a Remove or a derivation left when it was killed.
func (s *Store) sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	have := make(map[string]bool, len(entries))
	for _, e := range entries {
		have[e.Name()] = true
	}
	for name := range have {
		file, isFile := strings.CutSuffix(name, fileSuffix)
		rec, isRecord := strings.CutSuffix(name, recordSuffix)
		if isFile && have[file+recordSuffix] || isRecord && have[rec+fileSuffix] {
			continue
		}
		if err := s.discard(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
