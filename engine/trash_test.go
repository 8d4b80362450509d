package engine

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-engine/berth/internal/testroot"
)

// TestDeepTrash: the data of a removed container goes, however deep it has nested directories.
func TestDeepTrash(t *testing.T) {
	var logged strings.Builder
	e := &Engine{opts: Options{DataRoot: t.TempDir()}, log: slog.New(slog.NewTextHandler(&logged, nil))}
	e.life, e.end = context.WithCancel(t.Context())
	defer e.end()
	dir := filepath.Join(e.trash(), "id")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	testroot.Deep(t, dir, 3000, nil)
	testroot.FewDescriptors(t, 200)
	if err := e.emptyTrash(); err != nil {
		t.Fatal(err)
	}
	e.work.Wait()
	if left, err := os.ReadDir(e.trash()); err != nil || len(left) > 0 || logged.Len() > 0 {
		t.Errorf("left: %v %v\n%s", left, err, logged.String())
	}
}
