package layer

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/testroot"
	"github.com/berth-engine/berth/layer/erofs"
)

// capNetBind is security.capability of revision 2 with CAP_NET_BIND_SERVICE, effective.
const capNetBind = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// baseItems is a small root file system.
var baseItems = []item{
	{name: "./", mode: 0o751},
	{name: "bin/"},
	{name: "bin/tool", data: "tool", mode: 0o4755},
	{name: "bin/ping", data: "ping", mode: 0o755, xattrs: map[string]string{"security.capability": capNetBind}},
	{name: "bin/pang", hard: "bin/ping"},
	{name: "etc/"},
	{name: "etc/hosts", data: "localhost"},
	{name: "etc/conf", data: "conf", uid: 7, mode: 0o600},
	{name: "etc/old", data: "old"},
	{name: "etc/dir.d/"},
	{name: "etc/dir.d/a", data: "a"},
	{name: "etc/dir.d/b", data: "b"},
	{name: "lib", link: "usr/lib"},
	{name: "tmp/", mode: 0o1777},
	{name: "usr/"},
	{name: "usr/lib/", xattrs: map[string]string{"user.note": "here"}},
	{name: "usr/lib/libc", data: strings.Repeat("c", 10_000)},
	{name: "usr/share/"},
	{name: "usr/share/doc/"},
	{name: "usr/share/doc/x", data: "x"},
	{name: "usr/share/doc/y", data: "y"},
	{name: "var/"},
	{name: "var/file", data: "a file"},
	{name: "var/null", typ: tar.TypeChar, major: 1, minor: 3, mode: 0o666},
}

// change does to a root file system what containers do.
func change(t testing.TB, root string) {
	t.Helper()
	in := func(p string) string { return filepath.Join(root, p) }
	for i, err := range []error{
		os.Chmod(root, 0o700), // in no layer
		os.WriteFile(in("etc/conf"), []byte("changed"), 0),
		os.Remove(in("etc/old")),
		os.Mkdir(in("etc/new"), 0o750),
		os.WriteFile(in("etc/new/file"), []byte("new"), 0o640),
		os.Lchown(in("etc/new/file"), 3, 4),
		os.Chmod(in("bin/tool"), 0o755),
		os.Remove(in("bin/pang")),
		os.Link(in("bin/tool"), in("bin/tool2")),
		os.WriteFile(in("usr/twice"), []byte("twice"), 0o644),
		os.Link(in("usr/twice"), in("usr/again")),
		os.Symlink("../etc/conf", in("usr/link")),
		os.RemoveAll(in("etc/dir.d")), // and make it again: it hides what was in it
		os.Mkdir(in("etc/dir.d"), 0o700),
		os.WriteFile(in("etc/dir.d/b"), []byte("other"), 0o644),
		os.Mkdir(in("etc/dir.d/sub"), 0o755),
		os.RemoveAll(in("usr/share")), // a directory becomes a file
		os.WriteFile(in("usr/share"), []byte("now a file"), 0o644),
		os.Remove(in("var/file")), // and a file a directory
		os.Mkdir(in("var/file"), 0o755),
		os.WriteFile(in("var/file/in"), []byte("in"), 0o644),
		os.Remove(in("lib")), // and a link a directory
		os.Mkdir(in("lib"), 0o755),
		unix.Mkfifo(in("tmp/fifo"), 0o600),
		unix.Mknod(in("tmp/zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))),
		unix.Mknod(in("tmp/disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70_000))),
		unix.Mknod(in("tmp/socket"), unix.S_IFSOCK|0o600, 0),
		os.Mkdir(in("tmp/long"), 0o755),
		os.WriteFile(in("tmp/long/"+strings.Repeat("n", 255)), []byte("long"), 0o644),
		os.WriteFile(in("tmp/\xff not utf-8 \x01"), []byte("bytes"), 0o644),
		os.WriteFile(in("tmp/empty"), nil, 0o644),
		os.WriteFile(in("tmp/attr"), nil, 0o644),
		unix.Setxattr(in("tmp/attr"), "user.x", []byte(strings.Repeat("v", 1000)), 0),
		unix.Setxattr(in("tmp/attr"), "trusted.y", []byte("\x00\x01="), 0),
		unix.Setxattr(in("tmp/attr"), "user.overlay.opaque", []byte("y"), 0),
		unix.Setxattr(in("tmp/attr"), "security.capability", []byte(capNetBind), 0),
		os.Chtimes(in("tmp/attr"), time.Time{}, time.Unix(-5, 500)),
		os.Chmod(in("usr/lib"), 0o711),
		os.Rename(in("usr/lib/libc"), in("usr/libc")),
	} {
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

// treeOf describes everything in a tree but the root's own time and access times: a line for each path.
func treeOf(t testing.TB, root string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	inodes := map[[2]uint64][]string{}
	err := filepath.WalkDir(root+"/", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(p, root), "/")
		line := fmt.Sprintf("%o %d:%d rdev %x", st.Mode, st.Uid, st.Gid, st.Rdev)
		if rel != "" {
			line += fmt.Sprintf(" %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += " " + digest.FromBytes(b).Encoded()[:12]
			id := [2]uint64{uint64(st.Dev), st.Ino}
			inodes[id] = append(inodes[id], rel)
		case unix.S_IFLNK:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + to
		}
		line += xattrsAt(t, p)
		tree[rel] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range inodes {
		for _, n := range names {
			tree[n] += fmt.Sprintf(" is %q", names)
		}
	}
	return tree
}

func xattrsAt(t testing.TB, p string) string {
	t.Helper()
	buf := make([]byte, maxXattrs)
	n, err := unix.Llistxattr(p, buf)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, name := range strings.Split(string(buf[:n]), "\x00") {
		if name == "" {
			continue
		}
		v := make([]byte, maxXattrs)
		n, err := unix.Lgetxattr(p, name, v)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf(" %s=%q", name, v[:n]))
	}
	slices.Sort(list)
	return strings.Join(list, "")
}

// sameTree compares two trees as treeOf describes them.
func sameTree(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if got[p] != want[p] {
			t.Errorf("%s: /%s\n is  %s\nwant %s", what, p, cmp.Or(got[p], "missing"), want[p])
		}
	}
	for _, p := range slices.Sorted(maps.Keys(got)) {
		if want[p] == "" {
			t.Errorf("%s: /%s is there: %s", what, p, got[p])
		}
	}
}

func writeTarOf(t testing.TB, u *Upper, st *Stack, o DiffOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := u.WriteTar(t.Context(), st, &b, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A step's directory, its settled directory and its layer show the same, entry by entry.
func TestUpperForms(t *testing.T) {
	s := newStore(t, Auto)
	base := stack(t, s, put(t, s, baseItems...))
	u := upperOf(t, s)
	rw := mountFile(t, base, u, MountOptions{Volatile: true})
	if err := os.Chtimes(fdPath(rw)+"/var/null", time.Time{}, time.Unix(epoch+7, 0)); err != nil {
		t.Fatal(err)
	}
	change(t, fdPath(rw))
	live := treeOf(t, fdPath(rw))
	inUse := writeTarOf(t, u, base, DiffOptions{})
	rw.Close()
	raw := writeTarOf(t, u, base, DiffOptions{})
	if !bytes.Equal(inUse, raw) {
		t.Error("the tar of the mounted upper is another than that of the unmounted one")
	}
	if err := u.Settle(t.Context(), base, DiffOptions{}); err != nil {
		t.Fatal(err)
	}
	settled := writeTarOf(t, u, base, DiffOptions{})
	if !bytes.Equal(raw, settled) {
		t.Error("the tar of the settled upper is another than that of the raw one")
	}
	on := base.On(u)
	defer on.Release()
	asUpper := treeOf(t, mount(t, on, nil, MountOptions{}))

	l, err := s.Put(t.Context(), bytes.NewReader(raw), "")
	if err != nil {
		t.Fatal(err)
	}
	asLayer := treeOf(t, mount(t, stack(t, s, base.DiffIDs()[0], l.DiffID), nil, MountOptions{}))
	sameTree(t, "layer, compared with the settled upper", asLayer, asUpper)

	// What was live differs from it in fractions of seconds, sockets and user.overlay.* only.
	delete(live, "tmp/socket")
	live[""] = asLayer[""]
	for p, line := range live {
		line = strings.Replace(line, ` user.overlay.opaque="y"`, "", 1)
		if i := strings.Index(line, "."); i >= 0 && p != "" {
			line = line[:i+1] + "000000000" + line[i+10:]
		}
		live[p] = line
	}
	sameTree(t, "layer, compared with what the container saw", asLayer, live)
}

func TestChanges(t *testing.T) {
	s := newStore(t, Auto)
	base := stack(t, s, put(t, s, baseItems...))
	u := upperOf(t, s)
	rw := mount(t, base, u, MountOptions{})
	if list, err := u.Changes(t.Context(), base, DiffOptions{}); err != nil || len(list) != 0 {
		t.Errorf("nothing was changed: %v %v", list, err)
	}
	change(t, rw)
	list, err := u.Changes(t.Context(), base, DiffOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, fmt.Sprintf("%c %s", c.Kind, c.Path))
	}
	want := []string{
		"C /bin", "D /bin/pang", "C /bin/tool", "A /bin/tool2",
		"C /etc", "C /etc/conf", "C /etc/dir.d", "D /etc/dir.d/a", "C /etc/dir.d/b", "A /etc/dir.d/sub", "A /etc/new", "A /etc/new/file", "D /etc/old",
		"C /lib",
		"C /tmp", "A /tmp/attr", "A /tmp/disk", "A /tmp/empty", "A /tmp/fifo", "A /tmp/long", "A /tmp/long/" + strings.Repeat("n", 255), "A /tmp/socket", "A /tmp/zero", "A /tmp/\xff not utf-8 \x01",
		"C /usr", "A /usr/again", "C /usr/lib", "D /usr/lib/libc", "A /usr/libc", "A /usr/link", "C /usr/share", "A /usr/twice",
		"C /var", "C /var/file", "A /var/file/in",
	}
	slices.SortFunc(want, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	size, err := u.Size(t.Context())
	if want := int64(len("changed") + len("new") + len("tool") + len("twice") + len("other") + len("now a file") + len("in") + len("long") + len("bytes") + 10_000); err != nil || size != want {
		t.Errorf("size %d, want %d (%v)", size, want, err)
	}
}

// xino=on marks every new directory of an upper as hiding what is below. On a foreign base its layer
// hides nothing all the same.
func TestForeignBase(t *testing.T) {
	s := newStore(t, Auto)
	none := stack(t, s)
	u := upperOf(t, s)
	rw := mountFile(t, none, u, MountOptions{})
	for _, err := range []error{os.MkdirAll(fdPath(rw)+"/etc/dir.d", 0o755), os.WriteFile(fdPath(rw)+"/etc/dir.d/c", nil, 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	rw.Close()
	if v, err := os.ReadDir(u.upper()); err != nil || len(v) != 1 {
		t.Fatal(v, err)
	}
	l, err := s.Put(t.Context(), bytes.NewReader(writeTarOf(t, u, none, DiffOptions{})), "")
	if err != nil {
		t.Fatal(err)
	}
	base := put(t, s, baseItems...)
	view := mount(t, stack(t, s, base, l.DiffID), nil, MountOptions{})
	for _, p := range []string{"etc/hosts", "etc/dir.d/a", "etc/dir.d/b", "etc/dir.d/c", "bin/tool"} {
		if _, err := os.Lstat(filepath.Join(view, p)); err != nil {
			t.Error(err)
		}
	}

	// The directory itself is refused there.
	st := stack(t, s, base)
	if f, err := st.Mount(t.Context(), u, MountOptions{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("mounted on a foreign base: %v %v", f, err)
	}
	if err := u.WriteTar(t.Context(), st, io.Discard, DiffOptions{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("compared with a foreign base: %v", err)
	}
	on := st.On(u)
	defer on.Release()
	if f, err := on.Mount(t.Context(), nil, MountOptions{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("stacked on a foreign base: %v %v", f, err)
	}
	again, err := s.OpenUpper(u.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if f, err := st.Mount(t.Context(), again, MountOptions{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("mounted on a foreign base after a restart: %v %v", f, err)
	}
}

// Steps of a build: each on the ones before, which become layers meanwhile.
func TestSteps(t *testing.T) {
	s := newStore(t, Auto)
	base := stack(t, s, put(t, s, baseItems...))
	var uppers []*Upper
	at := base
	for i := range 4 {
		u := upperOf(t, s)
		rw := mountFile(t, at, u, MountOptions{Volatile: true})
		p := fdPath(rw)
		for _, err := range []error{
			os.WriteFile(fmt.Sprintf("%s/step%d", p, i), []byte{byte('0' + i)}, 0o644),
			os.RemoveAll(p + "/etc/dir.d"),
			os.Mkdir(p+"/etc/dir.d", 0o755),
			os.WriteFile(fmt.Sprintf("%s/etc/dir.d/%d", p, i), nil, 0o644),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		rw.Close()
		if err := u.Settle(t.Context(), at, DiffOptions{}); err != nil {
			t.Fatal(err)
		}
		uppers = append(uppers, u)
		next := at.On(u)
		t.Cleanup(next.Release)
		at = next
	}
	want := treeOf(t, mount(t, at, nil, MountOptions{}))
	if names, err := os.ReadDir(mount(t, at, nil, MountOptions{}) + "/etc/dir.d"); err != nil || len(names) != 1 || names[0].Name() != "3" {
		t.Errorf("%v %v", names, err)
	}
	// One after the other takes the place of its directory.
	ids := base.DiffIDs()
	for i, u := range uppers {
		below := stack(t, s, ids...)
		l, err := s.Put(t.Context(), bytes.NewReader(writeTarOf(t, u, below, DiffOptions{})), "")
		if err != nil {
			t.Fatal(err)
		}
		u.Became(l.DiffID)
		ids = append(ids, l.DiffID)
		mixed := stack(t, s, ids...).On(uppers[i+1:]...)
		sameTree(t, fmt.Sprintf("%d layers", len(ids)), treeOf(t, mount(t, mixed, nil, MountOptions{})), want)
		mixed.Release()
		if err := u.Destroy(); err != nil {
			t.Error(err)
		}
	}
}

// TestBecomesMeanwhile: a directory below that becomes a layer while it is looked at is no other base.
func TestBecomesMeanwhile(t *testing.T) {
	for range 2000 {
		below, u := newUpper("/below"), newUpper("/u")
		u.on = &foundation{uppers: []*Upper{below}}
		var became sync.WaitGroup
		became.Go(func() { below.Became("sha256:1") })
		for range 10 {
			if made, here := u.standing("", []*Upper{below}); made != here {
				t.Fatalf("made on %s, lies on %s", made, here)
			}
		}
		became.Wait()
	}
}

// What the engine makes in order to mount is in no layer, and parents' times are put back.
func TestMountPoints(t *testing.T) {
	s := newStore(t, Auto)
	base := stack(t, s, put(t, s, baseItems...))
	points := DiffOptions{MountPoints: []string{"/dev", "/proc", "/etc/hosts", "/etc/resolv.conf", "/run/secrets/key", "/usr/lib/cache", "/usr/share/doc/mnt", "/var/used", "/tmp/mnt"}}
	u := upperOf(t, s)
	rw := mountFile(t, base, u, MountOptions{Volatile: true})
	p := fdPath(rw)
	for _, err := range []error{
		os.Mkdir(p+"/dev", 0o755), os.Mkdir(p+"/proc", 0o755),
		os.WriteFile(p+"/etc/resolv.conf", nil, 0o644),
		os.MkdirAll(p+"/run/secrets", 0o755), os.WriteFile(p+"/run/secrets/key", nil, 0o644),
		os.Mkdir(p+"/usr/lib/cache", 0o755),
		os.Mkdir(p+"/usr/share/doc/mnt", 0o755),
		os.Mkdir(p+"/var/used", 0o755),
		os.Mkdir(p+"/tmp/mnt", 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	wait(t) // the process starts a tick later at the least
	for _, err := range []error{
		os.WriteFile(p+"/var/used/kept", nil, 0o644), // the process used the mount point's place
		os.WriteFile(p+"/usr/share/doc/x", []byte("changed"), 0o644),
		os.WriteFile(p+"/tmp/new", nil, 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	rw.Close()
	names := func(b []byte) []string {
		t.Helper()
		var list []string
		r := tar.NewReader(bytes.NewReader(b))
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				return list
			}
			if err != nil {
				t.Fatal(err)
			}
			when := "then"
			if h.ModTime.Unix() != epoch {
				when = "now"
			}
			list = append(list, h.Name+" "+when)
		}
	}
	raw := writeTarOf(t, u, base, points)
	want := []string{"tmp/ now", "tmp/new now", "usr/share/doc/ then", "usr/share/doc/x now", "var/ now", "var/used/ now", "var/used/kept now"}
	got := names(raw)
	// The parents of what changed are there, too, copied up as they were.
	for _, p := range []string{"usr/ then", "usr/share/ then"} {
		if !slices.Contains(got, p) {
			t.Errorf("no entry %q", p)
		}
		got = slices.DeleteFunc(got, func(s string) bool { return s == p })
	}
	if !slices.Equal(got, want) {
		t.Errorf("the layer has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	list, err := u.Changes(t.Context(), base, points)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		for _, p := range []string{"/dev", "/proc", "/etc", "/run", "/usr/lib", "/tmp/mnt"} {
			if c.Path == p || strings.HasPrefix(c.Path, p+"/") {
				t.Errorf("%c %s", c.Kind, c.Path)
			}
		}
	}
	if err := u.Settle(t.Context(), base, points); err != nil {
		t.Fatal(err)
	}
	if settled := writeTarOf(t, u, base, DiffOptions{}); !bytes.Equal(settled, raw) {
		t.Errorf("settled: %q", names(settled))
	}
	missing(t, u.upper()+"/run")
	missing(t, u.upper()+"/dev")
}

// wait lets the kernel's coarse clock move on by more than what two of its times may differ by.
func wait(t testing.TB) {
	t.Helper()
	now := func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
			t.Fatal(err)
		}
		return time.Duration(ts.Nano())
	}
	for start := now(); now() < start+3*clockTick(); {
		time.Sleep(time.Millisecond)
	}
}

// A container that changes nothing leaves an empty layer, whoever mounted what.
func TestNothingChanged(t *testing.T) {
	s := newStore(t, Auto)
	base := stack(t, s, put(t, s, baseItems...))
	empty := makeTar(t)
	u := upperOf(t, s)
	rw := mountFile(t, base, u, MountOptions{})
	if got := writeTarOf(t, u, base, DiffOptions{}); !bytes.Equal(got, empty) {
		t.Errorf("untouched: %d bytes", len(got))
	}
	// A file copied up and thrown away, a directory that only was copied up.
	p := fdPath(rw)
	if err := errors.Join(os.Chmod(p+"/usr/share/doc", 0o700), os.Chmod(p+"/usr/share/doc", 0o755)); err != nil {
		t.Fatal(err)
	}
	rw.Close()
	if got := writeTarOf(t, u, base, DiffOptions{}); !bytes.Equal(got, empty) {
		t.Errorf("copied up only: %d bytes", len(got))
	}
	root, err := os.Stat(u.upper())
	if err != nil || root.Mode().Perm() != 0o755 {
		t.Errorf("the root is %v (%v)", root.Mode(), err)
	}
}

func TestRefusedNames(t *testing.T) {
	s := newStore(t, Auto)
	none := stack(t, s)
	u := upperOf(t, s)
	rw := mount(t, none, u, MountOptions{})
	if err := os.WriteFile(rw+"/.wh.x", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{u.WriteTar(t.Context(), none, io.Discard, DiffOptions{}), u.Settle(t.Context(), none, DiffOptions{})} {
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "/.wh.x") {
			t.Error(err)
		}
	}
	if list, err := u.Changes(t.Context(), none, DiffOptions{}); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
}

// Directories nested deeper than any path is long are in no layer; that is said in a sentence, and they are
// measured and deleted. As deep as a path can say they are a layer. All of it with few descriptors.
func TestDeepUpper(t *testing.T) {
	s := newStore(t, Auto)
	none := stack(t, s)
	const within = (unix.PathMax - len("/file")) / len("/dddddddddd") // testroot.Deep's names
	for _, c := range []struct {
		levels int
		deep   bool
	}{{within, false}, {2500, true}} {
		u := upperOf(t, s)
		testroot.Deep(t, u.upper(), c.levels, func(d *os.Root, level int) error {
			if level != c.levels-1 {
				return nil
			}
			return d.WriteFile("file", []byte("1"), 0o600)
		})
		t.Run(fmt.Sprint(c.levels, " levels"), func(t *testing.T) {
			testroot.FewDescriptors(t, 40)
			if n, err := u.Size(t.Context()); n != 1 || err != nil {
				t.Errorf("size: %d %v", n, err)
			}
			list, err := u.Changes(t.Context(), none, DiffOptions{})
			if c.deep && !errdefs.IsInvalidArgument(err) || !c.deep && (err != nil || len(list) != c.levels+1) {
				t.Errorf("changes: %d %v", len(list), err)
			}
			err = u.WriteTar(t.Context(), none, io.Discard, DiffOptions{})
			if c.deep != errdefs.IsInvalidArgument(err) || !c.deep && err != nil {
				t.Errorf("tar: %v", err)
			}
			err = u.Settle(t.Context(), none, DiffOptions{})
			if c.deep != errdefs.IsInvalidArgument(err) || !c.deep && err != nil {
				t.Errorf("settle: %v", err)
			}
			if err := errors.Join(u.Destroy(), u.Destroy()); err != nil {
				t.Error(err)
			}
			missing(t, u.Dir())
		})
	}
}

// More than a layer can hold is refused while it is read, not when all of it is in memory.
func TestLargeUpper(t *testing.T) {
	testroot.Require(t)
	dir := testroot.Dir(t)
	s, err := Open(t.Context(), Options{Root: dir + "/root", ExecRoot: dir + "/exec", Limits: erofs.Limits{Inodes: 20, Metadata: 4000}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	none := stack(t, s)
	u := upperOf(t, s)
	refused := func(want string) {
		t.Helper()
		_, err := u.Changes(t.Context(), none, DiffOptions{})
		for _, err := range []error{err, u.WriteTar(t.Context(), none, io.Discard, DiffOptions{}), u.Settle(t.Context(), none, DiffOptions{})} {
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
				t.Error(err)
			}
		}
	}
	for i := range 21 {
		if err := os.WriteFile(fmt.Sprint(u.upper(), "/", i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused("more than 20 files")
	if err := os.Remove(u.upper() + "/20"); err != nil {
		t.Fatal(err)
	}
	if list, err := u.Changes(t.Context(), none, DiffOptions{}); err != nil || len(list) != 20 {
		t.Error(len(list), err)
	}
	for i := range 2 {
		if err := unix.Setxattr(fmt.Sprint(u.upper(), "/", i), "user.large", make([]byte, 2000), 0); err != nil {
			t.Skipf("the file system takes no such attribute: %v", err)
		}
	}
	refused("more than 4000 bytes of names")
}

func TestDestroyImmutable(t *testing.T) {
	s := newStore(t, Auto)
	u := upperOf(t, s)
	f, err := os.Create(u.upper() + "/stuck")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0x10); err != nil {
		t.Skipf("the file system has no immutable files: %v", err)
	}
	f.Close()
	if err := u.Destroy(); err != nil {
		t.Error(err)
	}
	missing(t, u.Dir())
}

// An upper that was mounted volatile when the machine went down is refused.
func TestVolatile(t *testing.T) {
	s := newStore(t, Auto)
	none := stack(t, s)
	u := upperOf(t, s)
	for range 2 { // the second time there is overlayfs's mark
		f := mountFile(t, none, u, MountOptions{Volatile: true})
		if err := os.WriteFile(fdPath(f)+"/x", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	mountFile(t, none, u, MountOptions{}).Close()
	mountFile(t, none, u, MountOptions{Volatile: true}).Close()
	if base, boot, err := u.mark(); err != nil || base != noLayers || boot == "" {
		t.Errorf("mark %q %q %v", base, boot, err)
	}
	if err := u.setMark(noLayers, "another-boot"); err != nil {
		t.Fatal(err)
	}
	if f, err := none.Mount(t.Context(), u, MountOptions{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("%v %v", f, err)
	}
}

func TestReadOnly(t *testing.T) {
	s := newStore(t, Auto)
	st := stack(t, s, put(t, s, baseItems...))
	for name, p := range map[string]string{
		"view":     mount(t, st, nil, MountOptions{}),
		"readonly": mount(t, st, upperOf(t, s), MountOptions{ReadOnly: true}),
		"layer":    st.lowers[0].Name(),
	} {
		if err := os.WriteFile(p+"/x", nil, 0o644); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenUpper(t *testing.T) {
	s := newStore(t, Auto)
	if _, err := s.OpenUpper(s.tmp); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	u := upperOf(t, s)
	if _, err := s.NewUpper(u.Dir()); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	again, err := s.OpenUpper(u.Dir())
	if err != nil {
		t.Fatal(err)
	}
	none := stack(t, s)
	if err := os.WriteFile(mount(t, none, u, MountOptions{})+"/x", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if size, err := again.Size(t.Context()); err != nil || size != 1 {
		t.Error(size, err)
	}
}
