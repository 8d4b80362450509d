package server

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/tree"
	"github.com/berth-engine/berth/internal/atomicfile"
)

// Store is what the engine keeps of contexts: contents, and which client's file had which.
type Store struct {
	Contents *tree.Store
	dir      string

	mu     sync.Mutex
	known  map[string]*known // by id of client and root; guarded by mu
	recent []string          // ids in known, the last used at the end; guarded by mu
}

// keep is how many contexts' lists are held in memory.
const keep = 16

// Open returns the store in dir, which it makes.
func Open(dir string) (*Store, error) {
	contents, err := tree.Open(filepath.Join(dir, "contents"))
	if err != nil {
		return nil, err
	}
	s := &Store{Contents: contents, dir: filepath.Join(dir, "known"), known: map[string]*known{}}
	return s, os.MkdirAll(s.dir, 0o700)
}

// Close closes the contents.
func (s *Store) Close() error { return s.Contents.Close() }

// known is a list of files as they were when their contents came. It is not changed after it was made.
type known struct {
	entries []tree.Entry // sorted; directories too
	settled []bool       // the entry may be trusted by its times
}

// get gives what is known of a root; nothing for an unknown one.
func (s *Store) get(id string) *known {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.known[id]
	if !ok {
		k = readKnown(s.file(id))
	}
	s.note(id, k)
	return k
}

// note needs mu held.
func (s *Store) note(id string, k *known) {
	s.known[id] = k
	if i := slices.Index(s.recent, id); i >= 0 {
		s.recent = slices.Delete(s.recent, i, i+1)
	}
	s.recent = append(s.recent, id)
	if len(s.recent) > keep {
		delete(s.known, s.recent[0])
		s.recent = s.recent[1:]
	}
}

func (s *Store) put(id string, k *known) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(id, k)
	return atomicfile.Write(s.file(id), k.encode(), 0o600, atomicfile.Volatile)
}

func (s *Store) file(id string) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:16]))
}

const knownMagic = "berth known 1\n"

// encode is: magic, crc32 of the rest, length of the list, the list, and for each entry its sum and a
// byte.
func (k *known) encode() []byte {
	var list []byte
	prev := &session.Entry{}
	for i := range k.entries {
		list = session.AppendEntry(list, &k.entries[i].Entry, prev)
		prev = &k.entries[i].Entry
	}
	body := binary.LittleEndian.AppendUint64(nil, uint64(len(list)))
	body = append(body, list...)
	for i := range k.entries {
		body = append(body, k.entries[i].Sum[:]...)
		if k.settled[i] {
			body = append(body, 1)
		} else {
			body = append(body, 0)
		}
	}
	b := binary.LittleEndian.AppendUint32([]byte(knownMagic), crc32.ChecksumIEEE(body))
	return append(b, body...)
}

// readKnown gives nothing where there is nothing that can be read: everything is sent again then.
func readKnown(path string) *known {
	b, err := os.ReadFile(path)
	if err != nil {
		return &known{}
	}
	k, err := decodeKnown(b)
	if err != nil {
		return &known{}
	}
	return k
}

var errKnown = errors.New("damaged")

func decodeKnown(b []byte) (*known, error) {
	if len(b) < len(knownMagic)+12 || string(b[:len(knownMagic)]) != knownMagic {
		return nil, errKnown
	}
	b = b[len(knownMagic):]
	if binary.LittleEndian.Uint32(b) != crc32.ChecksumIEEE(b[4:]) {
		return nil, errKnown
	}
	n := binary.LittleEndian.Uint64(b[4:])
	b = b[12:]
	if n > uint64(len(b)) {
		return nil, errKnown
	}
	list, err := session.DecodeList(b[:n])
	if err != nil {
		return nil, err
	}
	b = b[n:]
	const each = len(tree.Sum{}) + 1
	if len(b) != len(list)*each {
		return nil, errKnown
	}
	k := &known{entries: make([]tree.Entry, len(list)), settled: make([]bool, len(list))}
	for i := range list {
		k.entries[i] = tree.Entry{Entry: list[i], Sum: tree.Sum(b[i*each:][:32])}
		k.settled[i] = b[i*each+32] == 1
	}
	return k, nil
}

// same says whether the file is the one that was known.
func same(a, b *session.Entry) bool {
	return a.Size == b.Size && a.Mtime == b.Mtime && a.Ctime == b.Ctime && a.Inode == b.Inode && b.IsReg() && a.IsReg()
}

// apply sets the contents of t's files that are known and still here.
func (k *known) apply(t *tree.Tree) {
	j := 0
	for i := range t.Entries {
		e := &t.Entries[i]
		for j < len(k.entries) && session.ComparePaths(k.entries[j].Path, e.Path) < 0 {
			j++
		}
		if j == len(k.entries) {
			return
		}
		if old := &k.entries[j]; old.Path == e.Path && k.settled[j] && same(&old.Entry, &e.Entry) && t.Known(i, old.Sum) {
			e.Xattrs = old.Xattrs
		}
	}
}
