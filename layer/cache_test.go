package layer

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/testroot"
)

// resident says how many of a file's pages are in the page cache.
func resident(t testing.TB, path string) (in, of int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(m); err != nil {
			t.Error(err)
		}
	}()
	pages, err := mincore(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		in += int(p & 1)
	}
	return in, len(pages)
}

// Two stacks with a common base share its page cache: what was read through one costs the other no
// memory. And with direct I/O nothing of it is in the cache a second time, as pages of the layer file.
func TestPageCache(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		s := newStore(t, form)
		data := make([]byte, 8<<20)
		if _, err := rand.Read(data); err != nil {
			t.Fatal(err)
		}
		base := put(t, s, item{name: "big", data: string(data)})
		one := mount(t, stack(t, s, base, put(t, s, item{name: "one"})), nil, MountOptions{})
		two := mount(t, stack(t, s, base, put(t, s, item{name: "two"})), nil, MountOptions{})
		written, _ := resident(t, s.layerFile(base))
		// Somebody else may drop caches, or need the memory: then it is read again, in the one only.
		in, of := 0, 1
		for range 20 {
			if content(t, one+"/big") != string(data) {
				t.Fatal("the content is another")
			}
			if in, of = resident(t, two+"/big"); in == of {
				break
			}
		}
		if in != of {
			t.Errorf("after it was read in one stack, %d of %d pages are there for the other", in, of)
		}
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !info.DirectIO {
			t.Skipf("no direct I/O here: %v", info.Notes)
		}
		// What the store itself has to read of the file, its metadata, is little.
		if in, of := resident(t, s.layerFile(base)); in > of/8 || in > written+of/16 {
			t.Errorf("%d of %d pages of the layer file are in the cache, besides those of what was read from it", in, of)
		}
	})
}

// The alignment that is asked for is the one with which reads succeed. (Where it is not, such reads would
// fail long after the mount.)
func TestDirectIOProbe(t *testing.T) {
	for align, want := range map[uint32]bool{0: false, 1: true, 512: true, 513: false, 4096: false} {
		if fineGrained(align) != want {
			t.Errorf("offsets in steps of %d: %v", align, !want)
		}
	}
	testroot.Require(t)
	for _, dir := range []string{testroot.Dir(t), shm(t)} {
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, make([]byte, 64<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		said, can := directIO(path), readsDirectly(t, path)
		t.Logf("%s: statx says %v, reads at 512 bytes say %v", dir, said, can)
		if said && !can {
			t.Errorf("%s: direct reads at 512 bytes were promised", dir)
		}
	}
	if directIO("/no/such/file") {
		t.Error("a file that is not there takes direct reads")
	}
}

// readsDirectly tries it: 512 bytes at an odd multiple of 512.
func readsDirectly(t testing.TB, path string) bool {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EINVAL) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	m, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(m); err != nil {
			t.Error(err)
		}
	}()
	n, err := unix.Pread(fd, m[:512], 3*512)
	return n == 512 && err == nil
}

// shm returns a directory on a tmpfs, where one is.
func shm(t testing.TB) string {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Skip("/dev/shm is no tmpfs")
	}
	dir, err := os.MkdirTemp("/dev/shm", testroot.Prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// On a tmpfs no file can be mounted from: another form serves, and Info says why.
func TestFallBackFromDirect(t *testing.T) {
	testroot.Require(t)
	s := openStore(t, shm(t), Auto)
	st := stack(t, s, put(t, s, baseItems...))
	if got := content(t, mount(t, st, nil, MountOptions{})+"/etc/hosts"); got != "localhost" {
		t.Error(got)
	}
	info, err := s.Info(t.Context())
	if err != nil || info.Form == Direct || len(info.Notes) < 2 || !strings.Contains(info.Notes[0], "form direct") {
		t.Errorf("%+v %v", info, err)
	}
	t.Logf("%+v", info)
	if _, err := openStore(t, shm(t), Direct).Info(t.Context()); !errors.Is(err, errNoForm) {
		t.Errorf("direct, asked for by name: %v", err)
	}
}

// A store that has mounted nothing finds out when it is asked.
func TestInfo(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		s := newStore(t, form)
		info, err := s.Info(t.Context())
		if err != nil || info.Form != form || info.Overlay == "" || info.MaxLayers < 100 || info.Mounted != 0 {
			t.Errorf("%+v %v", info, err)
		}
		t.Logf("%+v", info)
		if left := mountsOf(t, filepath.Dir(s.mounts)); len(left) != 0 {
			t.Errorf("left mounted: %v", left)
		}
		for _, dir := range []string{s.tmp, s.mounts, s.unpacked} {
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left in %s: %v %v", dir, left, err)
			}
		}
	})
	if _, err := Open(t.Context(), Options{Root: t.TempDir(), ExecRoot: t.TempDir(), Form: "zip"}); err == nil || !strings.Contains(err.Error(), "zip") {
		t.Errorf("a form that is none: %v", err)
	}
}
