package build

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/build/session"
	"github.com/berth-engine/berth/build/solver"
	"github.com/berth-engine/berth/build/tree"
	"github.com/berth-engine/berth/internal/testroot"
	"github.com/berth-engine/berth/layer"
)

// world is an engine's worth of things to build with: layers, a base image, an executor.
type world struct {
	t      *testing.T
	root   string
	layers *layer.Store
	images *memory
	exec   *namespaces
	hold   func(digest.Digest) func() // of the builder; nil: none
	*Builder
}

var platform = ocispec.Platform{OS: "linux", Architecture: "amd64"}

// busybox is the program of the base image.
const busybox = "/bin/busybox"

func newWorld(t *testing.T) *world {
	t.Helper()
	testroot.Require(t)
	if _, err := os.Stat(busybox); err != nil {
		t.Fatalf("%v (install busybox-static)", err)
	}
	w := &world{t: t, root: testroot.Dir(t), images: &memory{known: map[string]base{}}, exec: &namespaces{}}
	w.openLayers()
	t.Cleanup(func() {
		if err := w.layers.Close(); err != nil {
			t.Error(err)
		}
	})
	w.addBase("base", baseFiles())
	w.open()
	return w
}

// openLayers opens the layers; again after restart.
func (w *world) openLayers() {
	w.t.Helper()
	var err error
	w.layers, err = layer.Open(w.t.Context(), layer.Options{Root: filepath.Join(w.root, "layers"), ExecRoot: filepath.Join(w.root, "exec")})
	if err != nil {
		w.t.Fatal(err)
	}
	w.images.layers = w.layers
}

// open opens the builder; again after restart.
func (w *world) open() {
	w.t.Helper()
	b, err := Open(context.WithoutCancel(w.t.Context()), Options{
		Root: filepath.Join(w.root, "build"), Layers: w.layers, Images: w.images, Executor: w.exec, Platform: platform, Hold: w.hold,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Builder = b
	w.t.Cleanup(func() {
		if err := b.Close(); err != nil && !strings.Contains(err.Error(), "closed") {
			w.t.Error(err)
		}
	})
}

// restart is that of the engine. No layer is mounted after it.
func (w *world) restart() {
	w.t.Helper()
	if err := errors.Join(w.Close(), w.layers.Close()); err != nil {
		w.t.Fatal(err)
	}
	w.openLayers()
	w.open()
}

type file struct {
	mode     int64
	data     string
	link     string
	uid, gid int
	typ      byte
}

func baseFiles() map[string]file {
	files := map[string]file{
		"bin/": {mode: 0o755}, "etc/": {mode: 0o755}, "tmp/": {mode: 0o1777}, "home/": {mode: 0o755}, "proc/": {mode: 0o755}, "var/": {mode: 0o755}, "run/": {mode: 0o755},
		"var/run": {link: "/run"}, "lib/": {mode: 0o755}, "lib64": {link: "lib"},
		"etc/passwd": {mode: 0o644, data: "root:x:0:0:root:/root:/bin/sh\napp:x:42:43:app:/home/app:/bin/sh\n"},
		"etc/group":  {mode: 0o644, data: "root:x:0:\nappgroup:x:43:\nstaff:x:50:\n"},
	}
	b, err := os.ReadFile(busybox)
	if err != nil {
		panic(err)
	}
	files["bin/busybox"] = file{mode: 0o755, data: string(b)}
	for _, applet := range strings.Fields("sh cat echo ls stat mkdir rm cp touch test true false id env sleep ln chmod chown wc head grep sed find sort readlink pwd hostname kill cmp dd mknod mkfifo tr date du od sha256sum tar gzip uname ip printf basename xargs") {
		files["bin/"+applet] = file{link: "busybox"}
	}
	return files
}

func tarOf(files map[string]file) []byte {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		h := &tar.Header{Name: name, Mode: f.mode, Uid: f.uid, Gid: f.gid, Size: int64(len(f.data)), Typeflag: tar.TypeReg, ModTime: time.Unix(1_500_000_000, 0), Linkname: f.link}
		switch {
		case f.typ != 0:
			h.Typeflag = f.typ
		case f.link != "":
			h.Typeflag = tar.TypeSymlink
		case strings.HasSuffix(name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := tw.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(tw, f.data); err != nil {
			panic(err)
		}
	}
	if err := tw.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// addBase makes an image of the files, and names it.
func (w *world) addBase(name string, files map[string]file, config ...func(*ocispec.Image)) {
	w.t.Helper()
	l, err := w.layers.Put(w.t.Context(), bytes.NewReader(tarOf(files)), "")
	if err != nil {
		w.t.Fatal(err)
	}
	created := time.Unix(1_500_000_000, 0).UTC()
	img := ocispec.Image{Created: &created, Platform: platform}
	img.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{l.DiffID}}
	img.History = []ocispec.History{{Created: &created, CreatedBy: "the test"}}
	img.Config.Env = []string{"PATH=/bin"}
	for _, f := range config {
		f(&img)
	}
	raw, err := json.Marshal(img)
	if err != nil {
		w.t.Fatal(err)
	}
	w.images.add(name, raw, img.RootFS.DiffIDs)
}

// addRaw is addBase with a configuration of fields that OCI doesn't have.
func (w *world) addRaw(name string, files map[string]file, config map[string]any) {
	w.t.Helper()
	w.addBase(name, files)
	b := w.images.known[name]
	var img map[string]any
	if err := json.Unmarshal(b.config, &img); err != nil {
		w.t.Fatal(err)
	}
	img["config"] = config
	raw, err := json.Marshal(img)
	if err != nil {
		w.t.Fatal(err)
	}
	w.images.add(name, raw, b.diffIDs)
}

// memory has the images of the tests.
type memory struct {
	layers   *layer.Store
	mu       sync.Mutex
	known    map[string]base // by familiar name, and by digest; guarded by mu
	resolved int             // guarded by mu
	ensured  int             // guarded by mu
}

type base struct {
	config  []byte
	diffIDs []digest.Digest
}

func (m *memory) add(name string, config []byte, diffIDs []digest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[name] = base{config, diffIDs}
	m.known[digest.FromBytes(config).String()] = base{config, diffIDs}
}

func (m *memory) find(ref reference.Named) (base, error) {
	name := strings.TrimSuffix(reference.FamiliarString(ref), ":latest")
	if c, ok := ref.(reference.Canonical); ok {
		name = c.Digest().String()
	}
	b, ok := m.known[name]
	if !ok {
		return b, fmt.Errorf("there is no image %s: %w", name, errdefs.ErrNotFound)
	}
	return b, nil
}

func (m *memory) Resolve(_ context.Context, ref reference.Named, _ solver.ImageOptions) (solver.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.resolved++
	b, err := m.find(ref)
	return solver.Image{Digest: digest.FromBytes(b.config), Config: b.config}, err
}

func (m *memory) Ensure(_ context.Context, ref reference.Canonical, _ solver.ImageOptions) ([]digest.Digest, func(), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ensured++
	b, err := m.find(ref)
	return b.diffIDs, func() {}, err
}

// local is a client whose contexts are maps in memory, by source and path. What begins with "-> " is a
// link; a path that ends in "/" is a directory.
type local struct {
	store   *tree.Store
	sources map[string]map[string]string
	modes   map[string]uint32 // of a path
	mtime   time.Time
	secrets map[string]string
	gone    chan struct{}
}

func (w *world) local(files map[string]string) *local {
	if _, ok := files["Dockerfile"]; !ok {
		panic("no Dockerfile")
	}
	return &local{store: w.contexts.Contents, sources: map[string]map[string]string{"context": files, "dockerfile": files}, gone: make(chan struct{}), mtime: time.Unix(1_600_000_000, 0)}
}

func (l *local) tree(source string) (*tree.Tree, error) {
	files, ok := l.sources[source]
	if !ok {
		return nil, fmt.Errorf("there is no build context named %q: %w", source, errdefs.ErrNotFound)
	}
	entries, data := map[string]tree.Entry{}, map[string][]byte{}
	for name, content := range files {
		e := tree.Entry{Entry: session.Entry{Path: strings.TrimSuffix(name, "/"), Mode: session.ModeReg | 0o644, Mtime: l.mtime.UnixNano()}}
		if link, ok := strings.CutPrefix(content, "-> "); ok {
			e.Mode, e.Link = session.ModeLink|0o777, link
		} else if strings.HasSuffix(name, "/") {
			e.Mode = session.ModeDir | 0o755
		} else {
			data[e.Path] = []byte(content)
			e.Size = int64(len(content))
		}
		if m, ok := l.modes[e.Path]; ok {
			e.Mode = e.Mode&session.ModeType | m
		}
		entries[e.Path] = e
		for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
			if _, ok := entries[dir]; !ok {
				entries[dir] = tree.Entry{Entry: session.Entry{Path: dir, Mode: session.ModeDir | 0o755, Mtime: l.mtime.UnixNano()}}
			}
		}
	}
	return l.store.FromEntries(entries, data), nil
}

func (l *local) Files(_ context.Context, source string, _ []string) (*tree.Tree, error) {
	return l.tree(source)
}

func (l *local) Tree(_ context.Context, source string, o solver.TreeOptions) (*tree.Tree, error) {
	t, err := l.tree(source)
	if err != nil {
		return nil, err
	}
	return t.Exclude(o.Exclude)
}

func (l *local) Secret(_ context.Context, id string) ([]byte, error) {
	s, ok := l.secrets[id]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	return []byte(s), nil
}

func (l *local) Gone() <-chan struct{} { return l.gone }

// events records what a build told.
type events struct {
	mu  sync.Mutex
	all []Event // guarded by mu
}

func (e *events) hear(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ev.Data = slices.Clone(ev.Data)
	e.all = append(e.all, ev)
}

// log is everything that steps said.
func (e *events) log() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	for _, ev := range e.all {
		b.Write(ev.Data)
	}
	return b.String()
}

type built struct {
	Result
	img ocispec.Image
	id  digest.Digest
	log string
	ev  *events
}

// build builds, and fails the test if that fails.
func (w *world) build(src *local, change ...func(*Request)) built {
	w.t.Helper()
	b, err := w.try(src, change...)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, b.log)
	}
	return b
}

func (w *world) try(src *local, change ...func(*Request)) (built, error) {
	w.t.Helper()
	ev := &events{}
	req := Request{Source: src, Progress: ev.hear}
	for _, f := range change {
		f(&req)
	}
	res, err := w.Build(w.t.Context(), req)
	b := built{Result: res, id: digest.FromBytes(res.Config), log: ev.log(), ev: ev}
	if err == nil {
		if err := json.Unmarshal(res.Config, &b.img); err != nil {
			w.t.Fatal(err)
		}
		if !slices.Equal(b.img.RootFS.DiffIDs, res.DiffIDs) {
			w.t.Fatalf("the configuration names %v, the result %v", b.img.RootFS.DiffIDs, res.DiffIDs)
		}
		withLayer := 0
		for _, h := range b.img.History {
			if !h.EmptyLayer {
				withLayer++
			}
			if h.Created == nil && len(res.DiffIDs) > 0 {
				w.t.Errorf("a line of the history has no time: %+v", h)
			}
		}
		if withLayer != len(res.DiffIDs) {
			w.t.Errorf("%d layers, %d lines of history with one", len(res.DiffIDs), withLayer)
		}
	}
	return b, err
}

// files reads the image's tree, without the base's programs: path → "mode uid:gid content".
func (w *world) files(b built) map[string]string {
	w.t.Helper()
	st, err := w.layers.Stack(w.t.Context(), b.DiffIDs)
	if err != nil {
		w.t.Fatal(err)
	}
	defer st.Release()
	root, err := st.Mount(w.t.Context(), nil, layer.MountOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer root.Close()
	return listTree(w.t, root)
}

// last reads the topmost layer's tar: path → type and content.
func (w *world) last(b built) []string { return w.layer(b.DiffIDs[len(b.DiffIDs)-1]) }

func (w *world) layer(id digest.Digest) []string {
	w.t.Helper()
	r, err := w.layers.Tar(id)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	var out []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, h.Name)
	}
}

type solverHost = solver.Host

func copyAll(w io.Writer, r io.Reader) (int64, error) { return io.Copy(w, r) }
