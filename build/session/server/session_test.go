package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/session/client"
	"github.com/berth-engine/berth/build/solver"
	"github.com/berth-engine/berth/build/tree"
	"github.com/berth-engine/berth/internal/frame"
)

// link is a client and a session with a connection between them.
type link struct {
	*Session
	sent atomic.Int64 // bytes of files
}

func connect(t *testing.T, store *Store, opts client.Options) *link {
	t.Helper()
	a, b := net.Pipe()
	l := &link{}
	opts.Sent = func(_ string, n int64) { l.sent.Add(n) }
	c := client.New(t.Context(), frame.NewWriter(a), opts)
	ids := map[string]string{}
	for name, dir := range opts.Dirs {
		ids[name] = client.SourceID(dir)
	}
	l.Session = New(frame.NewWriter(b), store, ids)
	var readers sync.WaitGroup
	readers.Go(func() { pump(t, a, c.Handle) })
	readers.Go(func() { pump(t, b, l.Deliver); l.Session.Close() })
	t.Cleanup(func() {
		a.Close()
		b.Close()
		readers.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func pump(t *testing.T, r io.Reader, handle func(frame.Kind, []byte) error) {
	f := frame.NewReader(r)
	for {
		kind, payload, err := f.Next()
		if err != nil {
			return
		}
		if err := handle(kind, payload); err != nil {
			t.Error(err)
			return
		}
	}
}

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// must makes what a table says: "dir/", "file=content", "link->target".
func must(t *testing.T, root string, what ...string) {
	t.Helper()
	for _, w := range what {
		var err error
		if name, to, ok := strings.Cut(w, "->"); ok {
			err = os.Symlink(to, filepath.Join(root, name))
		} else if name, data, ok := strings.Cut(w, "="); ok {
			err = os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755)
			err = errors.Join(err, os.WriteFile(filepath.Join(root, name), []byte(data), 0o644))
		} else {
			err = os.MkdirAll(filepath.Join(root, w), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// age sets times long enough ago for the files to count as settled, and waits until ctime is, too.
func age(t *testing.T, root string) {
	t.Helper()
	var newest time.Time
	err := filepath.Walk(root, func(p string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		st := info.Sys()
		_ = st
		var s unix.Stat_t
		if err := unix.Lstat(p, &s); err != nil {
			return err
		}
		if c := time.Unix(s.Ctim.Unix()); c.After(newest) {
			newest = c
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for time.Since(newest) < 11*time.Millisecond { // the rule itself is in wall time
		time.Sleep(time.Millisecond)
	}
}

func load(t *testing.T, tr *tree.Tree) {
	t.Helper()
	all := make([]int, len(tr.Entries))
	for i := range all {
		all[i] = i
	}
	if err := tr.Load(t.Context(), all); err != nil {
		t.Fatal(err)
	}
}

func dump(t *testing.T, tr *tree.Tree) map[string]string {
	t.Helper()
	out := map[string]string{}
	for i, e := range tr.Entries {
		switch {
		case e.IsDir():
			out[e.Path] = "dir"
		case e.Link != "":
			out[e.Path] = "-> " + e.Link
		case e.Hardlink != "":
			out[e.Path] = "= " + e.Hardlink
		case !e.IsReg():
			out[e.Path] = "special"
		default:
			c, err := tr.Content(i)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(c.Reader())
			if err != nil {
				t.Fatal(err)
			}
			out[e.Path] = string(b)
		}
	}
	return out
}

func TestTransfer(t *testing.T) {
	dir, big := t.TempDir(), strings.Repeat("0123456789abcdef", 100_000)
	must(t, dir, "a/b/c=1", "a/empty=", "big="+big, "l->a/b", "ignored/x=no", "ignored/keep/y=2", "z.md=no", "README.md=3")
	if err := os.Link(filepath.Join(dir, "a/b/c"), filepath.Join(dir, "hard")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "a/empty"), 0o4755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	sock, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	age(t, dir)

	var skipped []string
	opts := client.Options{Dirs: map[string]string{"context": dir}, Skipped: func(_, p, _ string) { skipped = append(skipped, p) }}
	exclude := solver.TreeOptions{Exclude: []string{"ignored", "!ignored/keep", "**/*.md", "!README.md"}}
	want := map[string]string{
		"a": "dir", "a/b": "dir", "a/b/c": "1", "a/empty": "", "big": big, "l": "-> a/b", "ignored": "dir", "ignored/keep": "dir",
		"ignored/keep/y": "2", "README.md": "3", "hard": "= a/b/c", "fifo": "special",
	}
	storeDir := t.TempDir()
	store := openStore(t, storeDir)
	for round, bytes := range []int64{int64(len(big) + 3), 0, 0} {
		if round == 2 { // after a restart of the engine
			store = openStore(t, storeDir)
		}
		l := connect(t, store, opts)
		tr, err := l.Tree(t.Context(), "context", exclude)
		if err != nil {
			t.Fatal(err)
		}
		load(t, tr)
		if got := dump(t, tr); !maps.Equal(got, want) {
			for k := range want {
				if got[k] != want[k] {
					t.Errorf("%s: %.50q, want %.50q", k, got[k], want[k])
				}
			}
			t.Fatalf("round %d: %d entries, want %d", round, len(got), len(want))
		}
		if n := l.sent.Load(); n != bytes {
			t.Errorf("round %d: %d bytes were sent, want %d", round, n, bytes)
		}
		i, _ := tr.Find("a/empty")
		if tr.Entries[i].Mode != session.ModeReg|0o4755 {
			t.Errorf("mode %o", tr.Entries[i].Mode)
		}
	}
	if len(skipped) != 3 || skipped[0] != "sock" {
		t.Errorf("skipped: %q", skipped)
	}
}

func TestOnlyWhatChangedIsSent(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "a=aaaa", "b=bbbb", "c=cccc")
	age(t, dir)
	store := openStore(t, t.TempDir())
	get := func() (map[string]string, int64) {
		l := connect(t, store, client.Options{Dirs: map[string]string{"context": dir}})
		tr, err := l.Tree(t.Context(), "context", solver.TreeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		load(t, tr)
		return dump(t, tr), l.sent.Load()
	}
	get()

	// The same size, and mtime put back: only ctime tells.
	info, _ := os.Stat(filepath.Join(dir, "b"))
	must(t, dir, "b=BBBB")
	if err := os.Chtimes(filepath.Join(dir, "b"), info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	age(t, dir)
	got, n := get()
	if got["b"] != "BBBB" || n != 4 {
		t.Errorf("%v, %d bytes", got, n)
	}
	// Another file put in its place by rename, with the same content: its inode tells, and the content is here.
	must(t, dir, "new=aaaa")
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	age(t, dir)
	if _, n = get(); n != 4 {
		t.Errorf("%d bytes", n)
	}
	if _, n = get(); n != 0 {
		t.Errorf("%d bytes for nothing", n)
	}
	if got, _ := filepath.Glob(filepath.Join(store.dir, "../contents/pack-*")); len(got) != 2 {
		t.Errorf("the same content was kept twice: %v", got)
	}
}

func TestRacilyCleanIsSentAgain(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, t.TempDir())
	// A file with a time in the future can't be known by its times, however long ago it was written.
	must(t, dir, "f=x")
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "f"), future, future); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l := connect(t, store, client.Options{Dirs: map[string]string{"context": dir}})
		tr, err := l.Tree(t.Context(), "context", solver.TreeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		load(t, tr)
		if l.sent.Load() != 1 {
			t.Error("it was not sent again")
		}
	}
}

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "src/a.go=", "src/b.txt=", "real/f=", "alias->real", "deep/er/x=", "deep/l->../real/f", "out->../../../etc", "abs->/real", "other/huge=", "loop->loop", "pkg.json=", "pkg-lock.json=")
	store := openStore(t, t.TempDir())
	for _, c := range []struct {
		follow []string
		want   string
	}{
		{[]string{"src"}, "src src/a.go src/b.txt"},
		{[]string{"src/*.go"}, "src src/a.go"},
		{[]string{"alias"}, "alias real real/f"},
		{[]string{"alias/f"}, "alias real real/f"},
		{[]string{"deep/*"}, "deep deep/er deep/er/x deep/l real real/f"},
		{[]string{"abs/f"}, "abs real real/f"},
		{[]string{"out"}, "out"},
		{[]string{"loop"}, "loop"},
		{[]string{"pkg*.json", "no", "/deep/er/"}, "deep deep/er deep/er/x pkg-lock.json pkg.json"},
		{[]string{"../src/a.go"}, "src src/a.go"},
	} {
		l := connect(t, store, client.Options{Dirs: map[string]string{"context": dir}})
		tr, err := l.Tree(t.Context(), "context", solver.TreeOptions{Follow: c.follow})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range tr.Entries {
			got = append(got, e.Path)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: %q, want %q", c.follow, got, c.want)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "d/Dockerfile=FROM scratch", "Dockerfile->d/Dockerfile", ".dockerignore=*")
	l := connect(t, openStore(t, t.TempDir()), client.Options{Dirs: map[string]string{"dockerfile": dir}})
	tr, err := l.Files(t.Context(), "dockerfile", []string{"Dockerfile", "no", ".dockerignore"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"d": "dir", "d/Dockerfile": "FROM scratch", "Dockerfile": "-> d/Dockerfile", ".dockerignore": "*"}
	if got := dump(t, tr); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "f=1")
	l := connect(t, openStore(t, t.TempDir()), client.Options{
		Dirs:    map[string]string{"context": dir, "missing": filepath.Join(dir, "no")},
		Secrets: map[string]func() ([]byte, error){"s": func() ([]byte, error) { return []byte("value"), nil }, "bad": func() ([]byte, error) { return nil, os.ErrPermission }},
		Credentials: func(_ context.Context, host string) (session.Credential, error) {
			return session.Credential{Username: "u", Password: host}, nil
		},
	})
	if b, err := l.Secret(t.Context(), "s"); err != nil || string(b) != "value" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := l.Secret(t.Context(), "no"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if _, err := l.Secret(t.Context(), "bad"); err == nil || !strings.Contains(err.Error(), `secret "bad"`) {
		t.Error(err)
	}
	if c, err := l.Credential(t.Context(), "example.org"); err != nil || c.Username != "u" || c.Password != "example.org" {
		t.Error(c, err)
	}
	if _, err := l.Tree(t.Context(), "missing", solver.TreeOptions{}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if _, err := l.Tree(t.Context(), "unknown", solver.TreeOptions{}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	// A file that goes between list and transfer.
	tr, err := l.Tree(t.Context(), "context", solver.TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	if err := tr.Load(t.Context(), []int{0}); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "send the context: f: no such file") {
		t.Error(err)
	}
	// A file that becomes a FIFO is not opened for ever.
	if err := unix.Mkfifo(filepath.Join(dir, "f"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tr.Load(t.Context(), []int{0}); err == nil || !strings.Contains(err.Error(), "is none any more") {
		t.Error(err)
	}
	// One that became a link is not followed.
	_ = os.Remove(filepath.Join(dir, "f"))
	must(t, dir, "f->/etc/passwd")
	if err := tr.Load(t.Context(), []int{0}); err == nil {
		t.Error("a link was followed")
	}
	l.Session.Close()
	if _, err := l.Secret(t.Context(), "s"); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

// TestSilentClient: a client that is stopped keeps no build waiting for ever, whatever it was asked for.
func TestSilentClient(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() { _, _ = io.Copy(io.Discard, a) }()
	s := New(frame.NewWriter(b), openStore(t, t.TempDir()), map[string]string{"context": "id"})
	s.patience = 20 * time.Millisecond
	for name, ask := range map[string]func() error{
		"secret":     func() error { _, err := s.Secret(t.Context(), "s"); return err },
		"credential": func() error { _, err := s.Credential(t.Context(), "example.org"); return err },
		"list":       func() error { _, err := s.Tree(t.Context(), "context", solver.TreeOptions{}); return err },
		"files": func() error {
			tr := s.store.Contents.New([]tree.Entry{{Entry: session.Entry{Path: "f", Mode: session.ModeReg | 0o644, Size: 1}}}, nil, s.loader("context", 1, nil, false, nil))
			return tr.Load(t.Context(), []int{0})
		},
	} {
		if err := ask(); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "has not answered for 20ms") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(s.waiting) != 0 {
		t.Errorf("requests still wait: %v", s.waiting)
	}
	s.patience = time.Hour
	s.heard.Store(time.Now().Add(-2 * time.Hour).UnixNano()) // an answer to what was asked just now may take its time
	result := make(chan error, 1)
	result <- nil
	if err := s.await(t.Context(), result); err != nil {
		t.Error(err)
	}
}

// TestTalkingClient: a client that says something from time to time, of whatever request, is waited for; its patience
// counts from the last word.
func TestTalkingClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(nil, nil, nil)
		begun, ended := time.Now(), make(chan error, 1)
		go func() { ended <- s.await(t.Context(), make(chan error)) }()
		const words, pause = 3, patience - time.Second
		for range words {
			time.Sleep(pause)
			if err := s.Deliver(session.FailedFrame, []byte(`{"ID":7}`)); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-ended; !errdefs.IsUnavailable(err) {
			t.Error(err)
		}
		if waited := time.Since(begun); waited != words*pause+patience {
			t.Errorf("it was waited for %v", waited)
		}
	})
}

// TestChangedWhileRead has a file grow whenever it is read: at last there is an error that names it.
func TestChangedWhileRead(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "busy="+strings.Repeat("x", 1<<20))
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	var grow io.Writer = writerFunc(func(p []byte) (int, error) {
		if frame.Kind(p[0]) == session.FilesFrame {
			f, err := os.OpenFile(filepath.Join(dir, "busy"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprint(f, "more")
			f.Close()
		}
		return a.Write(p)
	})
	c := client.New(t.Context(), frame.NewWriter(grow), client.Options{Dirs: map[string]string{"context": dir}})
	s := New(frame.NewWriter(b), openStore(t, t.TempDir()), map[string]string{"context": "id"})
	var readers sync.WaitGroup
	readers.Go(func() { pump(t, a, c.Handle) })
	readers.Go(func() { pump(t, b, s.Deliver) })
	tr, err := s.Tree(t.Context(), "context", solver.TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Load(t.Context(), []int{0}); err == nil || !strings.Contains(err.Error(), "busy: it changed while it was read") {
		t.Error(err)
	}
	a.Close()
	b.Close()
	readers.Wait()
	c.Close()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestCancelledLoad(t *testing.T) {
	dir := t.TempDir()
	for i := range 200 {
		must(t, dir, fmt.Sprintf("f%d=%s", i, strings.Repeat("y", 20_000)))
	}
	l := connect(t, openStore(t, t.TempDir()), client.Options{Dirs: map[string]string{"context": dir}})
	tr, err := l.Tree(t.Context(), "context", solver.TreeOptions{Progress: nil})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tr.Load(ctx, []int{0, 1, 2}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	load(t, tr) // another build goes on
}

func TestFromStream(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"dockerfile": {"FROM scratch\n", "FROM scratch\n"},
		"no context": {"\x7fELF\x00\x00", ""},
		"empty":      {"", ""},
	} {
		got, err := FromStream(t.Context(), openStore(t, t.TempDir()), strings.NewReader(c.in))
		if c.want == "" && name != "empty" {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := dump(t, got.t); d["Dockerfile"] != c.want {
			t.Errorf("%s: %q", name, d)
		}
	}
	if !isTar(make([]byte, 1024)) || isTar(bytes.Repeat([]byte("a"), 1024)) {
		t.Error("what is a tar?")
	}
}

func FuzzDecodeKnown(f *testing.F) {
	k := known{entries: []tree.Entry{{Entry: session.Entry{Path: "a", Mode: session.ModeReg, Size: 1}}}, settled: []bool{true}}
	f.Add(k.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeKnown(b)
		if err == nil && !slices.Equal(k.encode(), b) {
			// The list may be encoded in several ways; what counts is that it can be read.
			if _, err := decodeKnown(k.encode()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzDeliver(f *testing.F) {
	f.Add(byte(session.ListFrame), []byte{1, 0, 0, 1, 'a'})
	f.Add(byte(session.FilesFrame), []byte{1, 0, 3, 0})
	f.Add(byte(session.SecretFrame), []byte(`{"ID":1}`))
	store, err := Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		s := New(frame.NewWriter(io.Discard), store, map[string]string{"context": "id"})
		tr := store.Contents.New([]tree.Entry{{Entry: session.Entry{Path: "a", Mode: session.ModeReg, Size: 1}}}, nil, nil)
		r, err := newReceiver(store.Contents, tr, []int{0}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.register(r); err != nil {
			t.Fatal(err)
		}
		_ = s.Deliver(frame.Kind(kind), payload)
		s.Close()
		_ = r.abort()
	})
}
