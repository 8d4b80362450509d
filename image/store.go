package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Store keeps records of images and names below a directory:
//
//	ROOT/images/HEX         one image, HEX of its ID
//	ROOT/names/HEX          one name, HEX of sha256 of its full form (a name can be longer than NAME_MAX)
//	ROOT/damaged/…          what did not match its checksum
//
// Records are read when they are needed; nothing is read by Open.
type Store struct {
	root string
	mu   sync.Mutex // orders writers; held for no longer than a file is written
}

// name is what a name's file holds.
type name struct {
	Name  string // "docker.io/library/busybox:1.36" or "…@sha256:…"
	Image digest.Digest
	Root  digest.Digest `json:",omitempty"` // of the form that it stands for; "" for whichever the image has
	Set   time.Time
}

// Open makes ROOT's directories where they are missing.
func Open(root string) (*Store, error) {
	s := &Store{root: root}
	for _, dir := range []string{"images", "names"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return nil, fmt.Errorf("image store: %w", err)
		}
	}
	return s, nil
}

func (s *Store) imagePath(id digest.Digest) string {
	return filepath.Join(s.root, "images", id.Encoded())
}

func (s *Store) namePath(full string) string {
	sum := sha256.Sum256([]byte(full))
	return filepath.Join(s.root, "names", hex.EncodeToString(sum[:]))
}

// Update makes durable what change makes of the record of an image; found is false where there is none. Nobody else
// writes a record meanwhile. An error of change is returned, and nothing is written; nor is what is as it was.
func (s *Store) Update(id digest.Digest, change func(old Image, found bool) (Image, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.Get(id)
	if err != nil && !errdefs.IsNotFound(err) && !errors.Is(err, atomicfile.ErrDamaged) { // which was set aside
		return err
	}
	found := err == nil
	img, err := change(old, found)
	if err != nil || found && reflect.DeepEqual(img, old) {
		return err
	}
	return atomicfile.WriteRecord(s.imagePath(id), img, atomicfile.Durable)
}

// Get returns the image with that ID; errdefs.ErrNotFound where there is none.
func (s *Store) Get(id digest.Digest) (Image, error) {
	var img Image
	err := s.read(s.imagePath(id), &img)
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, NotFound(id.String())
	}
	return img, err
}

// List returns all images, in no particular order. Damaged records are left out, and reported
// together in the error beside the images that are whole.
func (s *Store) List() ([]Image, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "images"))
	if err != nil {
		return nil, err
	}
	var (
		images []Image
		broken []error
	)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		var img Image
		switch err := s.read(filepath.Join(s.root, "images", e.Name()), &img); {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case err != nil:
			broken = append(broken, err)
		default:
			images = append(images, img)
		}
	}
	return images, errors.Join(broken...)
}

// Remove removes the record of an image, and returns what it was. The image's names must be gone.
func (s *Store) Remove(id digest.Digest) (Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err := s.Get(id)
	if err != nil {
		return Image{}, err
	}
	return img, s.unlink(s.imagePath(id))
}

// Tag points name (with a tag or a digest) at an image, in the form of a root or ("") whichever it has, and returns
// the image that it pointed at before ("": none).
func (s *Store) Tag(ref reference.Named, id, root digest.Digest) (before digest.Digest, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.namePath(ref.String())
	var old name
	if err := s.read(path, &old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if old.Image == id && old.Root == root {
		return id, nil
	}
	return old.Image, atomicfile.WriteRecord(path, name{ref.String(), id, root, time.Now().UTC()}, atomicfile.Durable)
}

// Untag removes a name of an image; errdefs.ErrNotFound where there is none, or it is another image's.
func (s *Store) Untag(ref reference.Named, id digest.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch now, err := s.Lookup(ref); {
	case err != nil:
		return err
	case now != id:
		return NotFound(reference.FamiliarString(ref))
	}
	return s.unlink(s.namePath(ref.String()))
}

// Lookup returns the image that a name points at; errdefs.ErrNotFound where there is none.
func (s *Store) Lookup(ref reference.Named) (digest.Digest, error) {
	var n name
	err := s.read(s.namePath(ref.String()), &n)
	if errors.Is(err, fs.ErrNotExist) {
		return "", NotFound(reference.FamiliarString(ref))
	}
	return n.Image, err
}

// Root returns the root of the form of an image that a name stands for: "" where it stands for none, or is not the
// image's.
func (s *Store) Root(ref reference.Named, id digest.Digest) digest.Digest {
	var n name
	if err := s.read(s.namePath(ref.String()), &n); err != nil || n.Image != id {
		return ""
	}
	return n.root(ref)
}

// root is what a name stands for: one with a digest, which has none noted, for that.
func (n name) root(ref reference.Named) digest.Digest {
	if digested, ok := ref.(reference.Digested); ok && n.Root == "" {
		return digested.Digest()
	}
	return n.Root
}

// Roots returns the roots for which names of an image stand.
func (s *Store) Roots(id digest.Digest) (map[digest.Digest]bool, error) {
	roots := map[digest.Digest]bool{}
	return roots, s.eachName(func(n name, ref reference.Named) {
		if n.Image == id {
			roots[n.root(ref)] = true
		}
	})
}

// Names returns every name, by the image that it points at, sorted.
func (s *Store) Names() (map[digest.Digest][]reference.Named, error) {
	names := map[digest.Digest][]reference.Named{}
	err := s.eachName(func(n name, ref reference.Named) { names[n.Image] = append(names[n.Image], ref) })
	for _, refs := range names {
		slices.SortFunc(refs, func(a, b reference.Named) int { return strings.Compare(a.String(), b.String()) })
	}
	return names, err
}

// eachName calls f with every name that can be read. The error says which can't.
func (s *Store) eachName(f func(name, reference.Named)) error {
	entries, err := os.ReadDir(filepath.Join(s.root, "names"))
	if err != nil {
		return err
	}
	var broken []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		var n name
		err := s.read(filepath.Join(s.root, "names", e.Name()), &n)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			var ref reference.Named
			if ref, err = reference.ParseNormalizedNamed(n.Name); err == nil {
				f(n, ref)
				continue
			}
		}
		broken = append(broken, err)
	}
	return errors.Join(broken...)
}

// Resolve finds the image that a user means: a name (with tag or digest, "latest" if neither), or an
// ID or the beginning of one. errdefs.ErrNotFound, or ErrInvalidArgument where several IDs begin so.
func (s *Store) Resolve(user string) (digest.Digest, error) {
	if id, err := digest.Parse(user); err == nil {
		_, err := s.Get(id)
		return id, err
	}
	if ref, err := ParseName(user); err == nil {
		id, err := s.Lookup(ref)
		if !errdefs.IsNotFound(err) {
			return id, err
		}
	}
	if id, err := s.byPrefix(strings.TrimPrefix(user, "sha256:")); err == nil || !errdefs.IsNotFound(err) {
		return id, err
	}
	if _, err := ParseName(user); err != nil {
		return "", err
	}
	return "", NotFound(user)
}

// NotFound is Docker's sentence, which scripts look for.
func NotFound(name string) error {
	return fmt.Errorf("No such image: %s: %w", name, errdefs.ErrNotFound)
}

func (s *Store) byPrefix(prefix string) (digest.Digest, error) {
	if len(prefix) < 2 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return "", NotFound(prefix)
	}
	found, err := filepath.Glob(filepath.Join(s.root, "images", prefix+"*"))
	switch {
	case err != nil || len(found) == 0:
		return "", NotFound(prefix)
	case len(found) > 1:
		return "", fmt.Errorf("%d images have an ID that begins with %s, give more of it: %w", len(found), prefix, errdefs.ErrInvalidArgument)
	}
	return digest.NewDigestFromEncoded(digest.SHA256, filepath.Base(found[0])), nil
}

// read reads a record, and sets a damaged one aside.
func (s *Store) read(path string, v any) error {
	err := atomicfile.ReadRecord(path, v)
	if !errors.Is(err, atomicfile.ErrDamaged) {
		return err
	}
	aside := filepath.Join(s.root, "damaged")
	if e := os.MkdirAll(aside, 0o700); e != nil {
		return errors.Join(err, e)
	}
	to := filepath.Join(aside, filepath.Base(filepath.Dir(path))+"-"+filepath.Base(path))
	if e := os.Rename(path, to); e != nil {
		return errors.Join(err, e)
	}
	return fmt.Errorf("%w; it was set aside as %s", err, to)
}

// Damaged reports whether a record was set aside and is still there: then nothing may be deleted
// that it could have named (rules: a damaged record must not unpin its layers).
func (s *Store) Damaged() bool {
	entries, err := os.ReadDir(filepath.Join(s.root, "damaged"))
	return len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

func (s *Store) unlink(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}
