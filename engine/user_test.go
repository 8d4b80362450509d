package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestLookUp(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if id, err := lookUp(root, "1000:1000", nil); err != nil || id.uid != 1000 || id.gid != 1000 || id.home != "/" {
		t.Errorf("numbers without files: %+v %v", id, err)
	}
	for name, content := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:7:8::/srv:/bin/sh\n",
		"group":  "root:x:0:\napp:x:8:\nextra:x:9:app\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for who, want := range map[string]identity{
		"": {0, 0, []uint32{0}, "/root"}, "app": {7, 8, []uint32{8, 9}, "/srv"}, "7": {7, 8, []uint32{8, 9}, "/srv"},
		"app:extra": {7, 9, []uint32{9}, "/srv"}, "5": {5, 0, []uint32{0}, "/"},
	} {
		if got, err := lookUp(root, who, nil); err != nil || got.uid != want.uid || got.gid != want.gid || got.home != want.home || !slices.Equal(got.groups, want.groups) {
			t.Errorf("%q: %+v %v, want %+v", who, got, err, want)
		}
	}
	if id, err := lookUp(root, "app", []string{"extra", "77"}); err != nil || !slices.Contains(id.groups, 77) || !slices.Contains(id.groups, 9) {
		t.Errorf("more groups: %+v %v", id, err)
	}
	for _, who := range []string{"nobody", "app:none", "-1", "99999999999"} {
		if _, err := lookUp(root, who, nil); !errdefs.IsInvalidArgument(err) || strings.Count(strings.ToLower(err.Error()), "unable to find") != 1 {
			t.Errorf("%q: %v", who, err)
		}
	}
	if _, err := lookUp(root, "app", []string{"none"}); !errdefs.IsInvalidArgument(err) || strings.Count(strings.ToLower(err.Error()), "unable to find") != 1 {
		t.Error(err)
	}
}

// TestLookUpHostile: passwd and group are the container's, who could put anything there.
func TestLookUpHostile(t *testing.T) {
	dir := t.TempDir()
	etc := filepath.Join(dir, "etc")
	if err := os.Mkdir(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	passwd := filepath.Join(etc, "passwd")
	for name, plant := range map[string]func() error{
		"a fifo":    func() error { return unix.Mkfifo(passwd, 0o644) },
		"too large": func() error { return os.WriteFile(passwd, []byte(strings.Repeat("x", accountsMax+1)), 0o644) },
	} {
		if err := plant(); err != nil {
			t.Fatal(err)
		}
		if _, err := lookUp(root, "root", nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(passwd); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/../../../../etc/passwd", passwd); err != nil {
		t.Fatal(err)
	}
	if id, err := lookUp(root, "daemon", nil); err == nil {
		t.Errorf("a link led to the host's accounts: %+v", id)
	}
}
