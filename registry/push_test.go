package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// checkPublished fails unless the fake has all of im, byte by byte, and the tag points at its root.
func checkPublished(t *testing.T, f *fake, repo, tag string, im *testImage) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for d, b := range im.blobs {
		got, ok := f.blobs[repo][d]
		if _, isDoc := im.types[d]; isDoc {
			doc, found := f.manifests[repo][d.String()]
			got, ok = doc.body, found && doc.mediaType == im.types[d]
		}
		if !ok || !bytes.Equal(got, b) {
			t.Errorf("%s is missing, or something else", d)
		}
	}
	if got := digest.FromBytes(f.manifests[repo][tag].body); got != im.root.Digest {
		t.Errorf("%s points at %s, not %s", tag, got, im.root.Digest)
	}
}

func TestPush(t *testing.T) {
	for _, docker := range []bool{false, true} {
		t.Run(fmt.Sprintf("docker=%v", docker), func(t *testing.T) {
			one := makeImage(t, imageOptions{docker: docker, sizes: []int{100_000, 0, 3000}, seed: 1})
			two := makeImage(t, imageOptions{docker: docker, sizes: []int{500}, seed: 2, platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}})
			index := makeIndex(t, docker, one, two)
			for name, im := range map[string]*testImage{"image": one, "index": index} {
				f := newFake() // refuses what names something that it hasn't, so order is checked
				host := serveFake(t, f)
				c := newClient(t, Options{})
				src := newMemory(t)
				src.hold(im)
				if err := c.Push(t.Context(), named(t, host+"/a/b:v1"), im.root, src, PushOptions{}); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				checkPublished(t, f, "a/b", "v1", im)
				asked := f.requests()
				if last := asked[len(asked)-1]; last != "PUT /v2/a/b/manifests/v1" {
					t.Errorf("%s: last came %q", name, last)
				}
				// Once more, under another name: two questions.
				if err := c.Push(t.Context(), named(t, host+"/a/b:v2"), im.root, src, PushOptions{}); err != nil {
					t.Fatal(err)
				}
				if asked := f.requests(); len(asked) != 2 {
					t.Errorf("%s: a second tag took %q", name, asked)
				}
				// And back.
				dst := newMemory(t)
				got, err := c.Pull(t.Context(), named(t, host+"/a/b:v2"), PullOptions{}, dst)
				if err != nil || got.Ref.Digest != im.root.Digest {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// TestPushManners tries registries that take uploads in other ways.
func TestPushManners(t *testing.T) {
	const chunk = 1 << 20
	im := makeImage(t, imageOptions{sizes: []int{chunk + 1000}})
	size := im.layers[0].Blob.Size
	for name, tt := range map[string]struct {
		manner  func(*fake)
		patches int // of the one large layer
	}{
		"as the protocol has it": {func(*fake) {}, 0},
		"no chunks":              {func(f *fake) { f.noPatch = true }, 0},
		"no large bodies":        {func(f *fake) { f.maxPut = chunk }, 2},
		"no PUT with bytes":      {func(f *fake) { f.noPut = true }, 3},
		"large chunks":           {func(f *fake) { f.noPut, f.minChunk = true, chunkSize*2 }, 2},
		"ranges always 0-0":      {func(f *fake) { f.noPut, f.ranges00 = true, true }, 3},
		"a failure in the middle": {func(f *fake) {
			var once sync.Once
			f.before = func(w http.ResponseWriter, r *http.Request) (broken bool) {
				if r.Method == http.MethodPut && r.ContentLength > chunk {
					once.Do(func() {
						broken = true
						_, _ = io.CopyN(io.Discard, r.Body, chunk/2)
						panic(http.ErrAbortHandler)
					})
				}
				return broken
			}
		}, 0},
		"503 at the end": {func(f *fake) {
			n := 0
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				f.mu.Lock()
				defer f.mu.Unlock()
				if r.Method == http.MethodPut && n < 2 {
					n++
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(http.StatusServiceUnavailable)
					return true
				}
				return false
			}
		}, 0},
		"an upload that is forgotten": {func(f *fake) {
			var once sync.Once
			f.before = func(w http.ResponseWriter, r *http.Request) (answered bool) {
				if r.Method == http.MethodPut && r.ContentLength > chunk {
					once.Do(func() { answered = true; sayError(w, 404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry") })
				}
				return answered
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			tt.manner(f)
			src := newMemory(t)
			src.hold(im)
			c := newClient(t, Options{Uploads: 1})
			c.shared.chunk = chunk
			if err := c.Push(t.Context(), named(t, serveFake(t, f)+"/i"), im.root, src, PushOptions{}); err != nil {
				t.Fatal(err)
			}
			checkPublished(t, f, "i", "latest", im)
			patches := 0
			for _, r := range f.requests() {
				if strings.HasPrefix(r, "PATCH") {
					patches++
				}
			}
			if patches != tt.patches {
				t.Errorf("%d chunks of %d bytes, want %d", patches, size, tt.patches)
			}
		})
	}
}

// TestMount: a blob that another repository of the same registry has is shared, by a token for both.
func TestMount(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{1000}})
	for name, tt := range map[string]struct {
		mounts  bool
		uploads int
	}{"granted": {true, 0}, "begins an upload": {false, 2}} {
		t.Run(name, func(t *testing.T) {
			n := newInternet(t)
			f, s := newFake(), &issuer{}
			f.mounts = tt.mounts
			f.guard = s.bearer("https://r.example.com/token", "svc")
			n.add("r.example.com", withToken(f, s))
			im.publish(f, "base", "latest")
			src := newMemory(t)
			src.hold(im)
			src.from = []reference.Named{named(t, "elsewhere.example.com/base"), named(t, "r.example.com/new/i"), named(t, "r.example.com/base")}
			stages := map[Stage]int{}
			opts := PushOptions{Progress: func(e Event) {
				stages[e.Stage]++
				if e.Stage == Mounted && e.From != "base" {
					t.Errorf("%+v", e)
				}
			}}
			if err := n.client(Options{}).Push(t.Context(), named(t, "r.example.com/new/i"), im.root, src, opts); err != nil {
				t.Fatal(err)
			}
			checkPublished(t, f, "new/i", "latest", im)
			puts, posts := 0, 0
			for _, r := range f.requests() {
				if strings.HasPrefix(r, "PUT /v2/new/i/blobs/") {
					puts++
				}
				if strings.HasPrefix(r, "POST") {
					posts++
				}
			}
			if puts != tt.uploads || !slices.Contains(s.requests, "GET svc repository:base:pull repository:new/i:pull,push") {
				t.Errorf("%d uploads, tokens %q", puts, s.requests)
			}
			if tt.mounts != (stages[Mounted] == 2) || tt.mounts == (stages[Done] == 2) {
				t.Errorf("stages %v", stages)
			}
		})
	}
}

// TestPushWhatIsElsewhere: an index of which only one platform is here can be pushed where the registry
// has the rest, and else says what is missing.
func TestPushWhatIsElsewhere(t *testing.T) {
	here := makeImage(t, imageOptions{sizes: []int{100}, seed: 1})
	there := makeImage(t, imageOptions{sizes: []int{100}, seed: 2, platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}})
	index := makeIndex(t, false, here, there)
	f := newFake()
	index.publish(f, "full", "latest")
	host := serveFake(t, f)
	c := newClient(t, Options{})
	dst := newMemory(t)
	p := amd64()
	if _, err := c.Pull(t.Context(), named(t, host+"/full"), PullOptions{Platform: &p}, dst); err != nil {
		t.Fatal(err)
	}
	// The layers' compressed bytes were not kept.
	delete(dst.blobs, here.layers[0].Blob.Digest)
	f.manifests["full"]["other"] = document{"x", []byte("{}")}
	if err := c.Push(t.Context(), named(t, host+"/full:other"), index.root, dst, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	checkPublished(t, f, "full", "other", index)
	err := c.Push(t.Context(), named(t, host+"/empty"), index.root, dst, PushOptions{})
	var missing *MissingError
	if !errors.As(err, &missing) || !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "is neither on this machine nor in the registry") {
		t.Errorf("%v", err)
	}
	if _, ok := f.manifests["empty"]["latest"]; ok {
		t.Error("a tag was made")
	}
}

func TestPushRefusals(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{1000}})
	for _, tt := range []struct {
		name string
		f    func(*fake)
		src  func(*memory)
		kind func(error) bool
		says string
	}{
		{name: "denied", f: func(f *fake) {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPost {
					return false
				}
				sayError(w, 403, codeDenied, "requested access to the resource is denied")
				return true
			}
		}, kind: errdefs.IsPermissionDenied, says: "push access denied for HOST/i, it may require 'berth login HOST': denied: requested access"},
		{name: "damaged layer", src: func(m *memory) {
			b := bytes.Clone(m.blobs[im.layers[0].Blob.Digest])
			b[7] ^= 1
			m.blobs[im.layers[0].Blob.Digest] = b
		}, kind: errdefs.IsDataLoss, says: "is damaged on this machine"},
		{name: "short layer", src: func(m *memory) {
			m.blobs[im.layers[0].Blob.Digest] = m.blobs[im.layers[0].Blob.Digest][:50]
		}, kind: errdefs.IsDataLoss, says: "is damaged on this machine"},
		{name: "damaged manifest", src: func(m *memory) { m.blobs[im.root.Digest] = []byte("{}") }, kind: errdefs.IsDataLoss, says: "is damaged on this machine"},
		{name: "no manifest", src: func(m *memory) { delete(m.blobs, im.root.Digest) }, kind: errdefs.IsNotFound, says: "neither on this machine"},
		{name: "no layer", src: func(m *memory) { delete(m.blobs, im.layers[0].Blob.Digest) }, kind: errdefs.IsNotFound, says: "neither on this machine"},
		{name: "a registry that keeps something else", f: func(f *fake) {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
				w.WriteHeader(http.StatusCreated)
				return true
			}
		}, kind: errdefs.IsDataLoss, says: "the registry stored the manifest"},
		{name: "no address to upload to", f: func(f *fake) {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPost {
					return false
				}
				w.WriteHeader(http.StatusAccepted)
				return true
			}
		}, kind: errdefs.IsUnavailable, says: "gives no address to upload to"},
		{name: "out of order", f: func(f *fake) {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut {
					return false
				}
				w.WriteHeader(http.StatusInsufficientStorage)
				return true
			}
		}, kind: errdefs.IsUnavailable, says: "507 Insufficient Storage"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			if tt.f != nil {
				tt.f(f)
			}
			src := newMemory(t)
			src.hold(im)
			if tt.src != nil {
				tt.src(src)
			}
			host := serveFake(t, f)
			err := newClient(t, Options{}).Push(t.Context(), named(t, host+"/i"), im.root, src, PushOptions{})
			if err == nil || !tt.kind(err) || !strings.Contains(err.Error(), strings.ReplaceAll(tt.says, "HOST", host)) {
				t.Errorf("%v", err)
			}
			if _, ok := f.manifests["i"]["latest"]; ok {
				t.Error("a tag was made")
			}
			for d := range f.blobs["i"] {
				if _, ours := im.blobs[d]; !ours {
					t.Errorf("%s was stored", d)
				}
			}
		})
	}
	ref, err := reference.WithDigest(named(t, "127.0.0.1:1/i"), im.root.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := newClient(t, Options{}).Push(t.Context(), ref, im.root, newMemory(t), PushOptions{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v", err)
	}
}

// TestPushCollected: the registry had the manifest and has lost a blob of it. All is sent again.
func TestPushCollected(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{1000}})
	f := newFake()
	im.publish(f, "i", "old")
	delete(f.blobs["i"], im.layers[0].Blob.Digest)
	src := newMemory(t)
	src.hold(im)
	if err := newClient(t, Options{}).Push(t.Context(), named(t, serveFake(t, f)+"/i:new"), im.root, src, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	checkPublished(t, f, "i", "new", im)
}

// TestUploadAtAnotherHost: where an upload leads to another host, that one is told no credentials.
func TestUploadAtAnotherHost(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{1000}})
	n := newInternet(t)
	f := newFake()
	f.guard = basic("me", "secret")
	n.add("r.example.com", f)
	n.add("up.r.example.com", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the upload host was told credentials")
		}
		r.SetBasicAuth("me", "secret")
		f.ServeHTTP(w, r)
	}))
	inner := f.before
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || r.Header.Get("Authorization") == "" {
			return inner != nil && inner(w, r)
		}
		f.mu.Lock()
		f.state++
		id := fmt.Sprint("x", f.state)
		f.uploads[id] = &[]byte{}
		f.mu.Unlock()
		w.Header().Set("Location", "https://up.r.example.com/v2/i/blobs/uploads/"+id+"?a=b")
		w.WriteHeader(http.StatusAccepted)
		return true
	}
	src := newMemory(t)
	src.hold(im)
	c := n.client(Options{Credentials: func(context.Context, string) (Credential, error) {
		return Credential{Username: "me", Password: "secret"}, nil
	}})
	if err := c.Push(t.Context(), named(t, "r.example.com/i"), im.root, src, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	checkPublished(t, f, "i", "latest", im)
}

// TestLocation: addresses as registries give them.
func TestLocation(t *testing.T) {
	for _, tt := range []struct{ from, location, want string }{
		{"https://r.example.com/v2/i/blobs/uploads/", "/v2/i/blobs/uploads/1?s=a%3D", "https://r.example.com/v2/i/blobs/uploads/1?s=a%3D"},
		{"https://r.example.com/v2/i/blobs/uploads/", "1?s=a", "https://r.example.com/v2/i/blobs/uploads/1?s=a"},
		{"https://r.example.com/v2/i/blobs/uploads/", "https://s.example.com/1", "https://s.example.com/1"},
		{"https://r.example.com/v2/i/blobs/uploads/", "http://r.example.com/1", "https://r.example.com/1"},
		{"https://r.example.com:444/v2/i/blobs/uploads/", "http://r.example.com:80/1", "https://r.example.com:444/1"},
		{"http://localhost:5000/v2/i/blobs/uploads/", "http://localhost:5000/1", "http://localhost:5000/1"},
		{"https://r.example.com/v2/i/blobs/uploads/", "", ""},
		{"https://r.example.com/v2/i/blobs/uploads/", "https://%zz/", ""},
	} {
		r, err := http.NewRequest(http.MethodPost, tt.from, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := location(&http.Response{Request: r, Header: http.Header{"Location": {tt.location}}})
		if tt.want == "" {
			if err == nil {
				t.Errorf("%q: %v", tt.location, got)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("%q: %v, %v", tt.location, got, err)
		}
	}
	u := mustURL(t, "https://h/x?_state=a%3D%3D&b")
	if got := ending(u, "sha256:ab").String(); got != "https://h/x?_state=a%3D%3D&b&digest=sha256%3Aab" {
		t.Error(got)
	}
	if got := ending(mustURL(t, "https://h/x"), "sha256:ab").String(); got != "https://h/x?digest=sha256%3Aab" {
		t.Error(got)
	}
}
