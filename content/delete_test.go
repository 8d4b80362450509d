package content

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berth-engine/berth/internal/testroot"
)

// TestDeleteMany: as many blobs as a prune may delete take few descriptors, one that can't be deleted
// keeps none of the others, and after Close none of their files is held.
func TestDeleteMany(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	stuck := digest.FromString("stuck")
	if err := os.MkdirAll(filepath.Join(s.blobs(), stuck.Encoded(), "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	all := []digest.Digest{stuck, "md5:none"}
	for i := range 1000 {
		d := digest.FromString(fmt.Sprint(i))
		if err := os.WriteFile(filepath.Join(s.blobs(), d.Encoded()), []byte(fmt.Sprint(i)), 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	testroot.FewDescriptors(t, freeBatch*freeBatches+50)
	gone, err := s.Delete(all...)
	if len(gone) != 1000 {
		t.Errorf("deleted %d", len(gone))
	}
	if err == nil || !strings.Contains(err.Error(), stuck.Encoded()) || !strings.Contains(err.Error(), "md5:none") || strings.Contains(err.Error(), "too many") {
		t.Errorf("error: %v", err)
	}
	if left, err := s.Digests(); err != nil || len(left) != 1 || left[0] != stuck {
		t.Errorf("left: %v %v", left, err)
	}
	s.Close()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(name, root) {
			t.Errorf("held: %s", name)
		}
	}
}
