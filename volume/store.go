package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-engine/berth/internal/atomicfile"
	"github.com/berth-engine/berth/internal/cleanup"
	"github.com/berth-engine/berth/internal/deeptree"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Volume is the record of one.
type Volume struct {
	Name    string
	Labels  map[string]string `json:",omitempty"`
	Options map[string]string `json:",omitempty"`
	Created time.Time
	// Anonymous is true for a volume that was made because an image or a -v without a name wanted
	// one; it goes with its container.
	Anonymous bool `json:",omitempty"`
	// Container is the container that an anonymous volume was made for.
	Container string `json:",omitempty"`
}

// Store keeps volumes below a directory:
//
//	ROOT/NAME/record   one checksummed record; instead of it condemnation: there is no such volume, it is being deleted
//	ROOT/NAME/_data    what containers mount
//	ROOT/.new-*        being filled; swept by Open
//	ROOT/.old-*        being deleted; swept by Open
type Store struct {
	root   string
	log    *slog.Logger
	rename func(from, to string) error // os.Rename

	// Deleting takes as long as there is data: it runs in the background, until life ends with Close.
	life       context.Context
	stop       context.CancelFunc
	background sync.WaitGroup

	mu     sync.Mutex               // guards claims; nothing is waited for while it is held
	claims map[string]chan struct{} // by the name that is being made or removed; closed at the end
}

// namePattern is Docker's (moby, "RestrictedNamePattern").
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

const nameMax = 255

// Open makes the directory where it is missing, and sweeps, in the background, what a crash left
// half-made. What can't be deleted is logged (log may be nil), and the next Open tries again. The caller
// closes the store.
func Open(ctx context.Context, root string, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(root, 0o711); err != nil {
		return nil, fmt.Errorf("volume store: %w", err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("volume store: %w", err)
	}
	s := &Store{root: root, log: log, rename: os.Rename, claims: map[string]chan struct{}{}}
	s.life, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	var left []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new-") || strings.HasPrefix(e.Name(), ".old-") {
			left = append(left, filepath.Join(root, e.Name()))
		} else if s.condemned(e.Name()) {
			if err := s.dispose(e.Name()); err != nil {
				log.Warn("a volume's removal that was cut short could not be ended, the next start tries again", "volume", e.Name(), "error", err)
			}
		}
	}
	s.delete(left...)
	return s, nil
}

// Close ends what runs in the background and waits for it. What is not deleted yet is left to the next
// Open.
func (s *Store) Close() {
	s.stop()
	s.background.Wait()
}

// delete deletes, in the background, what has no name of a volume (any more).
func (s *Store) delete(paths ...string) {
	s.background.Go(func() {
		for _, path := range paths {
			if err := deeptree.RemoveContext(s.life, path); err != nil && s.life.Err() == nil {
				s.log.Warn("the data of a volume that is gone could not be deleted, the next start tries again", "error", err)
			}
		}
	})
}

// claim has one at a time make or remove a volume of a name; release ends it.
func (s *Store) claim(ctx context.Context, name string) (release func(), err error) {
	for {
		s.mu.Lock()
		other, claimed := s.claims[name]
		if !claimed {
			mine := make(chan struct{})
			s.claims[name] = mine
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.claims, name)
				close(mine)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// NewName returns a name for an anonymous volume: 64 hexadecimal digits.
func NewName() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// CheckName refuses what can't be a volume's name, in Docker's words.
func CheckName(name string) error {
	if !namePattern.MatchString(name) || len(name) > nameMax {
		return fmt.Errorf("%q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Create makes a volume; fill (may be nil) writes into its still nameless data directory. Where the
// name is taken the volume that has it is returned with errdefs.ErrAlreadyExists. It waits for who makes
// or removes one of the same name, until ctx ends.
func (s *Store) Create(ctx context.Context, v Volume, fill func(dir string) error) (_ Volume, err error) {
	if err := CheckName(v.Name); err != nil {
		return Volume{}, err
	}
	release, err := s.claim(ctx, v.Name)
	if err != nil {
		return Volume{}, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	defer release()
	if old, err := s.Get(v.Name); !errdefs.IsNotFound(err) {
		return old, errors.Join(err, fmt.Errorf("volume %s: %w", v.Name, errdefs.ErrAlreadyExists))
	}
	if s.condemned(v.Name) { // its removal was cut short
		if err := s.dispose(v.Name); err != nil {
			return Volume{}, fmt.Errorf("create volume %s: %w", v.Name, err)
		}
	}
	aside, err := os.MkdirTemp(s.root, ".new-")
	if err != nil {
		return Volume{}, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	undo := cleanup.New()
	defer undo.Run(&err)
	undo.Add(func() error { s.delete(aside); return nil })
	data := filepath.Join(aside, "_data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return Volume{}, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	if fill != nil {
		if err := fill(data); err != nil {
			return Volume{}, fmt.Errorf("fill volume %s: %w", v.Name, err)
		}
	}
	v.Created = time.Now().UTC()
	if err := atomicfile.WriteRecord(filepath.Join(aside, "record"), v, atomicfile.Durable); err != nil {
		return Volume{}, err
	}
	if err := os.Chmod(aside, 0o711); err != nil {
		return Volume{}, err
	}
	if err := os.Rename(aside, filepath.Join(s.root, v.Name)); err != nil {
		return Volume{}, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	undo.Cancel()
	return v, atomicfile.SyncDir(s.root)
}

// Get returns a volume; errdefs.ErrNotFound where there is none.
func (s *Store) Get(name string) (Volume, error) {
	notFound := fmt.Errorf("get %s: no such volume: %w", name, errdefs.ErrNotFound)
	if CheckName(name) != nil {
		return Volume{}, notFound
	}
	var v Volume
	err := atomicfile.ReadRecord(filepath.Join(s.root, name, "record"), &v)
	if errors.Is(err, fs.ErrNotExist) || err != nil && s.condemned(name) {
		return Volume{}, notFound
	}
	return v, err
}

// List returns the volumes by name; damaged records are reported beside those that are whole.
func (s *Store) List() ([]Volume, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, err
	}
	found := map[string]Volume{}
	var broken []error
	for _, e := range entries {
		if CheckName(e.Name()) != nil {
			continue
		}
		switch v, err := s.Get(e.Name()); {
		case errdefs.IsNotFound(err): // removed meanwhile
		case err != nil:
			broken = append(broken, err)
		default:
			found[v.Name] = v
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Volume) int { return strings.Compare(a.Name, b.Name) }), errors.Join(broken...)
}

// Path is the directory that containers mount.
func (s *Store) Path(name string) string { return filepath.Join(s.root, name, "_data") }

// Remove removes a volume; its data is deleted in the background, or at once where the disk is full. The caller
// knows that no container uses it. It waits for who makes or removes it already, until ctx ends.
func (s *Store) Remove(ctx context.Context, name string) error {
	release, err := s.claim(ctx, name)
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	defer release()
	if _, err := s.Get(name); errdefs.IsNotFound(err) {
		return err
	}
	if err := s.dispose(name); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

// dispose takes a volume's name away and has its data deleted in the background. Where the disk has no room even
// for the name that it would have meanwhile, it is deleted at once, where it is. The caller has the claim.
func (s *Store) dispose(name string) error {
	old := filepath.Join(s.root, ".old-"+NewName())
	err := s.rename(filepath.Join(s.root, name), old)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return s.deleteInPlace(name)
	}
	if err != nil {
		return err
	}
	if err := atomicfile.SyncDir(s.root); err != nil {
		return err
	}
	s.delete(old)
	return nil
}

// condemnation stands in a volume's record while the volume is deleted under its own name. It is nothing that a power loss
// or a repaired file system could leave there, as an empty file is.
const condemnation = "deleted\n"

// deleteInPlace deletes a volume under its own name, without needing room on the disk: until the end its record, which is
// overwritten, says that the volume is none any more.
func (s *Store) deleteInPlace(name string) error {
	dir := filepath.Join(s.root, name)
	f, err := os.OpenFile(filepath.Join(dir, "record"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(condemnation), 0)
	if err == nil {
		err = f.Truncate(int64(len(condemnation)))
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := deeptree.RemoveContext(s.life, filepath.Join(dir, "_data")); err != nil {
		return err
	}
	return deeptree.Remove(dir)
}

// condemned tells whether a name's record says that the volume is being deleted.
func (s *Store) condemned(name string) bool {
	if CheckName(name) != nil {
		return false
	}
	b, err := os.ReadFile(filepath.Join(s.root, name, "record"))
	return err == nil && string(b) == condemnation
}
