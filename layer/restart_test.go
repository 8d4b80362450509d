package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/testroot"
)

// putterEnv names, to this program, the store into which it puts what comes on standard input: the tests
// kill it.
const putterEnv = "BERTH_TEST_LAYER_PUTTER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(putterEnv); dir != "" {
		os.Exit(putter(dir))
	}
	os.Exit(m.Run())
}

// putter puts one layer of standard input and says its digest.
func putter(dir string) int {
	s, err := Open(mainContext(), Options{Root: filepath.Join(dir, "root"), ExecRoot: filepath.Join(dir, "exec")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l, err := s.Put(mainContext(), os.Stdin, "")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(l.DiffID)
	return 0
}

// killedStore opens a store whose engine is killed at some time: it is never closed.
func killedStore(t testing.TB, dir string, form Form) *Store {
	t.Helper()
	s, err := Open(background(t), Options{Root: filepath.Join(dir, "root"), ExecRoot: filepath.Join(dir, "exec"), Form: form})
	if err != nil {
		t.Fatal(err)
	}
	s.background.Wait()
	return s
}

// mountsOf says what is mounted below dir, by mount point: the number of times, and the identity of the
// file system.
func mountsOf(t testing.TB, dir string) map[string][]string {
	t.Helper()
	list, err := mountsBelow(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, m := range list {
		found[m.Path] = append(found[m.Path], m.Dev)
	}
	return found
}

// A restarted engine finds each mounted layer again and mounts none a second time; what it does not know
// goes.
func TestRestart(t *testing.T) {
	testroot.Require(t)
	eachForm(t, func(t *testing.T, form Form) {
		dir := testroot.Dir(t)
		first := killedStore(t, dir, form)
		ids := []digest.Digest{
			put(t, first, baseItems...),
			put(t, first, item{name: "tmp/no/parent", data: "x"}), // and a layer of the stack's own on top
		}
		idle := put(t, first, item{name: "idle"})
		gone := put(t, first, item{name: "gone"})
		for _, list := range [][]digest.Digest{ids, {idle}, {gone}} {
			if _, err := first.Stack(t.Context(), list); err != nil {
				t.Fatal(err)
			}
		}
		// The engine is killed. Meanwhile a layer goes, and somebody mounts what is none.
		before := mountsOf(t, dir)
		if len(before) != 5 {
			t.Fatalf("mounted: %v", before)
		}
		stranger := filepath.Join(first.mounts, "stranger")
		for _, err := range []error{
			os.Remove(first.layerRecord(gone)),
			os.Mkdir(stranger, 0o700), unix.Mount("none", stranger, "tmpfs", 0, ""),
			os.Mkdir(filepath.Join(first.mounts, "empty"), 0o700),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}

		second := openStore(t, dir, form)
		st, err := second.Stack(t.Context(), ids)
		if err != nil {
			t.Fatal(err)
		}
		now := mountsOf(t, dir)
		if len(now) != 4 {
			t.Errorf("mounted: %v", now)
		}
		for p, devs := range now {
			if len(devs) != 1 || devs[0] != before[p][0] {
				t.Errorf("%s is mounted as %v, it was %v", p, devs, before[p])
			}
		}
		view := mountFile(t, st, nil, MountOptions{})
		if got := content(t, fdPath(view)+"/tmp/no/parent"); got != "x" {
			t.Error(got)
		}
		view.Close()
		if n, err := second.releaseIdle(); n != 1 || err != nil {
			t.Errorf("released %d: %v", n, err)
		}
		if mounted, pinned := second.counts(); mounted != 3 || pinned != 3 {
			t.Errorf("%d mounted, %d pinned", mounted, pinned)
		}

		// Another form finds them as well: a mount is a mount.
		other := Direct
		if form == Direct {
			other = Loop
		}
		third := openStore(t, dir, other)
		st3, err := third.Stack(t.Context(), ids)
		if err != nil {
			t.Fatal(err)
		}
		for p, devs := range mountsOf(t, dir) {
			if len(devs) != 1 || devs[0] != before[p][0] {
				t.Errorf("as %s: %s is mounted as %v, it was %v", other, p, devs, before[p])
			}
		}
		st3.Release()
		st.Release()
	})
}

// A stack that is in use when the engine stops stays mounted; a container goes on with it, whatever the
// engine does.
func TestCloseLeavesWhatIsInUse(t *testing.T) {
	testroot.Require(t)
	dir := testroot.Dir(t)
	s := killedStore(t, dir, Auto)
	used, idle := put(t, s, baseItems...), put(t, s, item{name: "idle"})
	st, err := s.Stack(t.Context(), []digest.Digest{used})
	if err != nil {
		t.Fatal(err)
	}
	stack(t, s, idle).Release()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if now := mountsOf(t, dir); len(now) != 1 || len(now[filepath.Join(s.mounts, used.Encoded())]) != 1 {
		t.Errorf("mounted: %v", now)
	}
	container := mountFile(t, st, nil, MountOptions{})
	defer container.Close()

	next := openStore(t, dir, Auto)
	if n, err := next.releaseIdle(); n != 1 || err != nil {
		t.Errorf("released %d: %v", n, err)
	}
	if err := next.Remove(t.Context(), used); err != nil {
		t.Error(err)
	}
	if got := content(t, fdPath(container)+"/etc/hosts"); got != "localhost" {
		t.Errorf("the container reads %q", got)
	}
}

// A Put that is killed leaves nothing that a new Open does not sweep, and what was acknowledged is there.
func TestKilledPut(t *testing.T) {
	testroot.Require(t)
	dir := testroot.Dir(t)
	random := rand.New(rand.NewPCG(1, 2))
	layer := makeTar(t, item{name: "big", data: strings.Repeat("some content ", 100_000)}, item{name: "d/"}, item{name: "d/f", data: "f"})
	var acknowledged []digest.Digest
	for i := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), putterEnv+"="+dir)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Each is another layer, so that each is written; some are killed before all was sent, some
		// somewhere between the last byte and the answer, some after it.
		mine := append(bytes.Clone(layer), make([]byte, 512*(i+1))...)
		send := len(mine)
		if i%3 == 0 {
			send = random.IntN(len(mine))
		}
		if _, err := in.Write(mine[:send]); err != nil {
			t.Fatal(err)
		}
		if send == len(mine) {
			in.Close()
			if i%3 == 1 {
				time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
			} else if said, err := io.ReadAll(out); err != nil || strings.TrimSpace(string(said)) != digest.FromBytes(mine).String() {
				t.Fatalf("%q %v", said, err)
			} else {
				acknowledged = append(acknowledged, digest.FromBytes(mine))
			}
		}
		_ = cmd.Process.Kill() // or it has ended
		_ = cmd.Wait()
	}
	s := openStore(t, dir, Auto)
	s.background.Wait()
	if left, err := os.ReadDir(s.tmp); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if err := s.Verify(t.Context(), l.DiffID); err != nil {
			t.Error(err)
		}
	}
	if files, err := os.ReadDir(s.files); err != nil || len(files) != 2*len(list) {
		t.Errorf("%d layers, and %v (%v)", len(list), files, err)
	}
	for _, id := range acknowledged {
		if _, err := s.Get(id); err != nil {
			t.Error(err)
		}
	}
	if len(acknowledged) == 0 {
		t.Error("no Put got through")
	}
}

// Many goroutines stack, mount, write, release, remove and put the same layers at once. Whatever a stack
// has stays what it is, and nothing is left.
func TestConcurrent(t *testing.T) {
	s := newStore(t, Auto)
	const count = 6
	var ids []digest.Digest
	var tars [][]byte
	for i := range count {
		items := []item{{name: fmt.Sprintf("f%d", i), data: strings.Repeat(fmt.Sprint(i), 3000)}, {name: "tmp/x", data: "x"}}
		if i == 0 {
			items = append(items, item{name: "tmp/", mode: 0o1777})
		}
		tars = append(tars, makeTar(t, items...))
		ids = append(ids, put(t, s, items...))
	}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(worker)))
			for round := range 25 {
				var err error
				switch n := random.IntN(10); {
				case n == 0:
					_, err = s.releaseIdle()
				case n == 1:
					if err = s.Remove(t.Context(), ids[random.IntN(count)]); errdefs.IsConflict(err) {
						err = nil
					}
				case n == 2:
					i := random.IntN(count)
					_, err = s.Put(t.Context(), bytes.NewReader(tars[i]), ids[i])
				default:
					err = useStack(t, s, ids[:1+random.IntN(count)], fmt.Sprintf("%d-%d", worker, round))
				}
				if err != nil {
					t.Errorf("worker %d, round %d: %v", worker, round, err)
				}
			}
		})
	}
	group.Wait()
	if _, pinned := s.counts(); pinned != 0 {
		t.Errorf("%d still pinned", pinned)
	}
	for p, devs := range mountsOf(t, filepath.Dir(s.mounts)) {
		if len(devs) != 1 {
			t.Errorf("%s is mounted %d times", p, len(devs))
		}
	}
	if err := s.Remove(t.Context(), ids...); err != nil {
		t.Error(err)
	}
	s.background.Wait()
	for _, dir := range []string{s.files, s.derived, s.tmp, s.mounts} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left in %s: %v %v", dir, left, err)
		}
	}
}

// useStack mounts the layers with an upper, reads all of their files, and writes. That a layer is not
// here just now is no error.
func useStack(t *testing.T, s *Store, ids []digest.Digest, name string) (err error) {
	st, err := s.Stack(t.Context(), ids)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer st.Release()
	u, err := s.NewUpper(filepath.Join(filepath.Dir(s.files), "upper-"+name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.Destroy()) }()
	f, err := st.Mount(t.Context(), u, MountOptions{Volatile: true})
	if err != nil {
		return err
	}
	defer f.Close()
	for i := range ids {
		b, err := os.ReadFile(fmt.Sprintf("%s/f%d", fdPath(f), i))
		if err != nil || string(b) != strings.Repeat(fmt.Sprint(i), 3000) {
			return fmt.Errorf("read f%d: %d bytes, %w", i, len(b), err)
		}
	}
	info, err := os.Stat(fdPath(f) + "/tmp")
	if err != nil || info.Mode()&os.ModeSticky == 0 {
		return fmt.Errorf("/tmp lost its sticky bit: %v %w", info, err)
	}
	return os.WriteFile(fdPath(f)+"/written", nil, 0o600)
}
