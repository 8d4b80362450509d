package solver

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berth-engine/berth/internal/testroot"
	"github.com/berth-engine/berth/layer/erofs"
)

// TestUnpackLimits: an archive can make no more names than a layer can hold, implied directories counted.
func TestUnpackLimits(t *testing.T) {
	testroot.Require(t)
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprintf("directory-%02d/", i))
	}
	deep := []string{strings.Repeat("d/", 19) + "e/"}
	const each = 128 + len("directory-00")
	for name, c := range map[string]struct {
		names   []string
		limits  erofs.Limits
		refused string
	}{
		"just right":           {many, erofs.Limits{Inodes: 20, Metadata: 20 * int64(each)}, ""},
		"one name too many":    {many, erofs.Limits{Inodes: 19, Metadata: 1 << 20}, "more than 19 names"},
		"directories":          {many, erofs.Limits{Inodes: 20, Metadata: 20*int64(each) - 1}, "too many directories"},
		"implied":              {deep, erofs.Limits{Inodes: 20, Metadata: 1 << 20}, ""},
		"one implied too many": {deep, erofs.Limits{Inodes: 19, Metadata: 1 << 20}, "more than 19 names"},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, n := range c.names {
			if err := w.WriteHeader(&tar.Header{Name: n, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		root, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		u := newUnpacker(newTarget(root, time.Now()), nil)
		u.limits = c.limits
		err = u.all(t.Context(), tar.NewReader(&b))
		if c.refused == "" && err != nil || c.refused != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v", name, err)
		}
		if err := u.t.close(); err != nil {
			t.Error(err)
		}
		root.Close()
	}
}
