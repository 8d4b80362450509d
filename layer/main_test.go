package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/testroot"
)

// item is an entry of a test's tar. Its type follows from its name and fields: "d/" is a directory,
// link makes a symbolic link, hard a hard link, else it is a file.
type item struct {
	name   string
	data   string
	link   string
	hard   string
	mode   int64 // 0: 0755 for directories, else 0644
	uid    int
	typ    byte // 0: as said above
	major  int64
	minor  int64
	mtime  int64 // 0: when the epoch of the tests was
	xattrs map[string]string
}

const epoch = 1_000_000_000

// makeTar makes the tar of items, in their order.
func makeTar(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	files := map[string]item{}
	for _, it := range items {
		if first, ok := files[it.hard]; ok { // as tar writes it: a link's header says what the file's does
			it.mode, it.uid, it.mtime = first.mode, first.uid, first.mtime
		}
		files[it.name] = it
		h := &tar.Header{Format: tar.FormatPAX, Name: it.name, Mode: it.mode, Uid: it.uid, Gid: it.uid,
			Devmajor: it.major, Devminor: it.minor, Typeflag: it.typ, ModTime: time.Unix(epoch, 0)}
		if it.mtime != 0 {
			h.ModTime = time.Unix(it.mtime, 0)
		}
		switch {
		case it.typ != 0:
		case it.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, it.link
		case it.hard != "":
			h.Typeflag, h.Linkname = tar.TypeLink, it.hard
		case strings.HasSuffix(it.name, "/"):
			h.Typeflag = tar.TypeDir
		default:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(it.data))
		}
		if h.Mode == 0 {
			if h.Mode = 0o644; h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		for k, v := range it.xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, it.data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// newStore opens a store in a directory of its own, in the given form, and closes it at the end.
func newStore(t testing.TB, form Form) *Store {
	t.Helper()
	testroot.Require(t)
	dir := testroot.Dir(t)
	return openStore(t, dir, form)
}

// needsLinux skips a test on a kernel that is older.
func needsLinux(t testing.TB, major, minor int) {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var have [2]int
	release := unix.ByteSliceToString(u.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &have[0], &have[1]); err != nil {
		t.Fatalf("release %q: %v", release, err)
	}
	if slices.Compare(have[:], []int{major, minor}) < 0 {
		t.Skipf("this is Linux %s; it takes %d.%d", release, major, minor)
	}
}

func openStore(t testing.TB, dir string, form Form) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Root: filepath.Join(dir, "root"), ExecRoot: filepath.Join(dir, "exec"), Form: form})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
		if left, err := mountsBelow(dir); err != nil || len(left) > 0 {
			t.Errorf("left mounted: %v %v", left, err)
		}
	})
	return s
}

// put stores a layer of the items.
func put(t testing.TB, s *Store, items ...item) digest.Digest {
	t.Helper()
	b := makeTar(t, items...)
	l, err := s.Put(t.Context(), bytes.NewReader(b), "")
	if err != nil {
		t.Fatal(err)
	}
	if want := digest.FromBytes(b); l.DiffID != want {
		t.Fatalf("the layer's diffID is %s, want %s", l.DiffID, want)
	}
	return l.DiffID
}

// stack stacks the layers and releases them at the end.
func stack(t testing.TB, s *Store, ids ...digest.Digest) *Stack {
	t.Helper()
	st, err := s.Stack(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Release)
	return st
}

// mount mounts the stack and returns a path that leads into the detached mount, until the end.
func mount(t testing.TB, st *Stack, u *Upper, o MountOptions) string {
	t.Helper()
	f := mountFile(t, st, u, o)
	t.Cleanup(func() { f.Close() })
	return fdPath(f)
}

func mountFile(t testing.TB, st *Stack, u *Upper, o MountOptions) *os.File {
	t.Helper()
	f, err := st.Mount(t.Context(), u, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// mainContext is for what is main in a program that a test starts.
func mainContext() context.Context { return context.Background() }

// background is for what a test's own context must not end.
func background(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }

func content(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func missing(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%s is there (%v)", path, err)
	}
}

func upperOf(t testing.TB, s *Store) *Upper {
	t.Helper()
	u, err := s.NewUpper(filepath.Join(filepath.Dir(s.files), "upper-"+testroot.Name(t)))
	if err != nil {
		t.Fatal(err)
	}
	return u
}
