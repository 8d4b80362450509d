package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-engine/berth/image/manifest"
)

// serveFake starts a fake on loopback, in plain HTTP, and returns its HOST:PORT.
func serveFake(t testing.TB, f http.Handler) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestPull(t *testing.T) {
	arm := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	for _, docker := range []bool{false, true} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(fmt.Sprintf("docker=%v/%s", docker, scheme), func(t *testing.T) {
				amd := makeImage(t, imageOptions{docker: docker, sizes: []int{100_000, 0, 5000, 300_000}, seed: 1})
				other := makeImage(t, imageOptions{docker: docker, sizes: []int{7}, seed: 2, platform: arm})
				index := makeIndex(t, docker, other, amd)
				f := newFake()
				index.publish(f, "a/b", "v1")
				amd.publish(f, "single", "latest")
				s := httptest.NewUnstartedServer(f)
				if scheme == "http" {
					s.Start()
				} else {
					s.StartTLS() // by nobody that this machine trusts: loopback may
				}
				defer s.Close()
				host := s.Listener.Addr().String()
				c := newClient(t, Options{})

				dst := newMemory(t)
				p := amd64()
				got, err := c.Pull(t.Context(), named(t, host+"/a/b:v1"), PullOptions{Platform: &p}, dst)
				if err != nil {
					t.Fatal(err)
				}
				dst.checkHas(amd)
				dst.checkHas(&testImage{root: index.root})
				if got.Ref.Digest != index.root.Digest || got.Ref.Size != index.root.Size || got.Ref.MediaType != index.root.MediaType || !bytes.Equal(got.Index, index.blobs[index.root.Digest]) {
					t.Errorf("ref %+v", got.Ref)
				}
				if got.Manifest.Digest != amd.manifest.Digest || got.Config.Digest != amd.config.Digest || len(got.Layers) != 4 || got.Platform.Architecture != "amd64" {
					t.Errorf("image %+v", got)
				}

				dst = newMemory(t)
				got, err = c.Pull(t.Context(), named(t, host+"/a/b:v1"), PullOptions{Platform: &arm}, dst)
				if err != nil || got.Config.Digest != other.config.Digest {
					t.Fatalf("%v", err)
				}
				dst = newMemory(t)
				got, err = c.Pull(t.Context(), named(t, host+"/single"), PullOptions{}, dst)
				if err != nil || got.Index != nil || got.Ref.Digest != amd.manifest.Digest {
					t.Fatalf("%v", err)
				}
				dst.checkHas(amd)

				// By digest, and once it is here nothing at all is asked.
				f.requests()
				got, err = c.Pull(t.Context(), named(t, host+"/single@"+amd.manifest.Digest.String()), PullOptions{}, dst)
				if err != nil || got.Manifest.Digest != amd.manifest.Digest {
					t.Fatal(err)
				}
				if asked := f.requests(); asked != nil {
					t.Errorf("asked for what is here: %q", asked)
				}
				// By tag only the head.
				if _, err = c.Pull(t.Context(), named(t, host+"/single"), PullOptions{}, dst); err != nil {
					t.Fatal(err)
				}
				if asked := f.requests(); !slices.Equal(asked, []string{"HEAD /v2/single/manifests/latest"}) {
					t.Errorf("asked %q", asked)
				}
			})
		}
	}
}

// TestPullManners tries registries that do things in other ways, all of which are right.
func TestPullManners(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{50_000, 2 << 20}})
	for name, manner := range map[string]func(*fake){
		"no HEAD":               func(f *fake) { f.noHead = true },
		"no digest":             func(f *fake) { f.noDigest = true },
		"nonsense digest":       func(f *fake) { f.digestHeader = "sha256:xyz" },
		"media type with extra": func(f *fake) { f.contentType = ocispec.MediaTypeImageManifest + "; charset=utf-8" },
		"no media type":         func(f *fake) { f.contentType = "application/json" },
		"cut":                   func(f *fake) { f.cuts[im.layers[1].Blob.Digest] = []int{0, 100_000, 1} },
		"cut, no ranges":        func(f *fake) { f.cuts[im.layers[1].Blob.Digest] = []int{1000, 100_000}; f.noRanges = true },
		"cut config":            func(f *fake) { f.cuts[im.config.Digest] = []int{10} },
		"cut at the end":        func(f *fake) { f.cuts[im.layers[1].Blob.Digest] = []int{int(im.layers[1].Blob.Size) - 1} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			manner(f)
			im.publish(f, "i", "latest")
			dst := newMemory(t)
			got, err := newClient(t, Options{}).Pull(t.Context(), named(t, serveFake(t, f)+"/i"), PullOptions{}, dst)
			if err != nil {
				t.Fatal(err)
			}
			if got.Ref.Digest != im.root.Digest || got.Ref.MediaType != ocispec.MediaTypeImageManifest {
				t.Errorf("%+v", got.Ref)
			}
			dst.checkHas(im)
		})
	}
}

// TestResumeAtTheRegistry: a resumed download asks only for what is missing, and asks the registry, as
// the blob store's address may have expired.
func TestResumeAtTheRegistry(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{3 << 20}})
	blob := im.layers[0].Blob
	f := newFake()
	im.publish(f, "i", "latest")
	f.cuts[blob.Digest] = []int{2 << 20}
	var mu sync.Mutex
	used := map[string]bool{}
	n := 0
	store := serveFake(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		again := used[r.URL.RawQuery]
		used[r.URL.RawQuery] = true
		mu.Unlock()
		if again {
			w.WriteHeader(http.StatusForbidden) // an address is good for once
			return
		}
		d := digest.Digest(strings.TrimPrefix(r.URL.Path, "/"))
		f.sendBlob(w, r, d, im.blobs[d])
	}))
	f.blobsAt = func(d string) string {
		mu.Lock()
		defer mu.Unlock()
		n++
		return fmt.Sprintf("http://%s/%s?sig=%d", store, d, n)
	}
	dst := newMemory(t)
	var stages []Stage
	_, err := newClient(t, Options{}).Pull(t.Context(), named(t, serveFake(t, f)+"/i"), PullOptions{Progress: func(e Event) {
		if len(stages) == 0 || stages[len(stages)-1] != e.Stage {
			stages = append(stages, e.Stage)
		}
	}}, dst)
	if err != nil {
		t.Fatal(err)
	}
	dst.checkHas(im)
	if !slices.Contains(stages, Retrying) {
		t.Errorf("stages %v", stages)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if rest := blob.Size - 2<<20 + im.config.Size; f.bytesSent != rest {
		t.Errorf("%d bytes after the cut, want %d", f.bytesSent, rest)
	}
}

func TestPullRefusals(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{4000}})
	layer := im.layers[0].Blob
	flipped := bytes.Clone(im.blobs[layer.Digest])
	flipped[100] ^= 1
	both := `{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}`
	config := fmt.Sprintf(`"config":{"mediaType":%q,"digest":%q,"size":%d}`, im.config.MediaType, im.config.Digest, im.config.Size)
	for _, tt := range []struct {
		name     string
		ref      string // "" : i:latest
		publish  func(f *fake)
		platform *ocispec.Platform
		kind     func(error) bool
		says     string
	}{
		{name: "unknown image", ref: "/nothere", kind: errdefs.IsNotFound, says: "pull access denied for HOST/nothere, repository does not exist or may require 'berth login HOST'"},
		{name: "unknown tag", ref: "/i:v9", kind: errdefs.IsNotFound, says: "manifest for HOST/i:v9 not found: manifest unknown"},
		{name: "unknown digest", ref: "/i@sha256:" + strings.Repeat("a", 64), kind: errdefs.IsNotFound, says: "not found: manifest unknown"},
		{name: "flipped bit", publish: func(f *fake) { f.damage[layer.Digest] = flipped }, kind: errdefs.IsDataLoss,
			says: "blob " + layer.Digest.String() + " of HOST/i: its digest is " + digest.FromBytes(flipped).String()},
		{name: "truncated layer", publish: func(f *fake) { f.damage[layer.Digest] = flipped[:1000] }, kind: errdefs.IsDataLoss,
			says: fmt.Sprintf("it is not whole in the registry: it has 1000 bytes there, its manifest says %d", layer.Size)},
		{name: "truncated layer of unknown length", publish: func(f *fake) { f.before = chunkedBlob(layer.Digest, flipped[:1000]) }, kind: errdefs.IsDataLoss,
			says: "it is truncated in the registry: only 1000 of its"},
		{name: "layer that is too long", publish: func(f *fake) { f.before = chunkedBlob(layer.Digest, append(bytes.Clone(im.blobs[layer.Digest]), 1)) }, kind: errdefs.IsDataLoss,
			says: "it is longer than"},
		{name: "layer that is not there", publish: func(f *fake) { delete(f.blobs["i"], layer.Digest) }, kind: errdefs.IsNotFound,
			says: "the registry does not have it, though its manifest names it"},
		{name: "flipped bit in the config", publish: func(f *fake) {
			f.damage[im.config.Digest] = append(bytes.Clone(im.blobs[im.config.Digest][:im.config.Size-1]), ' ')
		}, kind: errdefs.IsDataLoss, says: "its digest is"},
		{name: "manifest that is another", publish: func(f *fake) {
			f.manifests["i"][im.root.Digest.String()] = document{ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`)}
		}, kind: errdefs.IsDataLoss, says: "sent something else than the manifest it was asked for"},
		{name: "headers that agree with a wrong manifest", ref: "/i@" + im.root.Digest.String(), publish: func(f *fake) {
			f.digestHeader = im.root.Digest.String()
			f.manifests["i"][im.root.Digest.String()] = document{ocispec.MediaTypeImageManifest, append(bytes.Clone(im.blobs[im.root.Digest]), '\n')}
		}, kind: errdefs.IsDataLoss, says: "sent something else"},
		{name: "schema 1", publish: func(f *fake) {
			f.addManifest("i", "latest", "application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"name":"x","fsLayers":[]}`))
		}, kind: errdefs.IsInvalidArgument, says: "schema version 1"},
		{name: "both", publish: func(f *fake) { f.addManifest("i", "latest", ocispec.MediaTypeImageIndex, []byte(both)) }, kind: errdefs.IsInvalidArgument, says: "both as an index and as a manifest"},
		{name: "too large", publish: func(f *fake) {
			f.addManifest("i", "latest", ocispec.MediaTypeImageManifest, bytes.Repeat([]byte(" "), manifest.MaxSize+1))
		}, kind: errdefs.IsInvalidArgument, says: "more than the 4194304 bytes"},
		{name: "not JSON", publish: func(f *fake) { f.addManifest("i", "latest", ocispec.MediaTypeImageManifest, []byte("<html>")) }, kind: errdefs.IsInvalidArgument, says: "no JSON"},
		{name: "a chart", publish: func(f *fake) {
			f.addManifest("i", "latest", ocispec.MediaTypeImageManifest, []byte(strings.ReplaceAll(`{"schemaVersion":2,`+config+`,"layers":[]}`, im.config.MediaType, "application/vnd.cncf.helm.config.v1+json")))
		}, kind: errdefs.IsInvalidArgument, says: "no container image: its config is of type"},
		{name: "fewer layers than the config says", publish: func(f *fake) {
			f.addManifest("i", "latest", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,`+config+`,"layers":[]}`))
		}, kind: errdefs.IsInvalidArgument, says: "0 layers and its config 1"},
		{name: "index in a circle", publish: func(f *fake) {
			f.before = nestedIndex
		}, kind: errdefs.IsInvalidArgument, says: "without end"},
		{name: "other platform of an index", publish: func(f *fake) { makeIndex(t, false, im).publish(f, "i", "latest") },
			platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}, kind: errdefs.IsNotFound,
			says: "no matching manifest for linux/s390x in the manifest list entries: there is linux/amd64"},
		{name: "other platform of an image", platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}, kind: errdefs.IsNotFound,
			says: "it does not provide the platform linux/s390x: it is for linux/amd64"},
		{name: "rate limit", publish: func(f *fake) {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Retry-After", "21600")
				if r.Method == http.MethodHead {
					return false // does not count
				}
				sayError(w, 429, "TOOMANYREQUESTS", "You have reached your pull rate limit.")
				return true
			}
		}, kind: errdefs.IsResourceExhausted, says: "toomanyrequests: You have reached your pull rate limit. (it may be asked again in 6h0m0s)"},
		{name: "out of order", publish: func(f *fake) {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
		}, kind: errdefs.IsUnavailable, says: "503 Service Unavailable"},
		{name: "denied", publish: func(f *fake) {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				sayError(w, 403, codeDenied, "requested access to the resource is denied")
				return true
			}
		}, kind: errdefs.IsNotFound, says: "pull access denied for HOST/i, repository does not exist or may require 'berth login HOST': denied: requested access to the resource is denied"},
		{name: "redirects without end", publish: func(f *fake) { f.blobsAt = func(d string) string { return "/v2/i/blobs/" + d } }, says: "more than 10 redirects"},
		{name: "terminal codes", publish: func(f *fake) {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				sayError(w, 404, codeManifestUnknown, "\x1b[2J\x07gone\r\n")
				return true
			}
		}, kind: errdefs.IsNotFound, says: "manifest unknown: [2J gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			im.publish(f, "i", "latest")
			if tt.publish != nil {
				tt.publish(f)
			}
			host := serveFake(t, f)
			ref := tt.ref
			if ref == "" {
				ref = "/i"
			}
			dst := newMemory(t)
			_, err := newClient(t, Options{}).Pull(t.Context(), named(t, host+ref), PullOptions{Platform: tt.platform}, dst)
			if err == nil || tt.kind != nil && !tt.kind(err) || errors.Is(err, io.EOF) {
				t.Fatalf("error %v (%T)", err, err)
			}
			says := strings.ReplaceAll(tt.says, "HOST", host)
			if !strings.Contains(err.Error(), says) || strings.ContainsAny(err.Error(), "\x1b\x07\r\n") || strings.Contains(err.Error(), "the target's own words") {
				t.Errorf("says %q\nwant %q", err, says)
			}
			if dst.layers[im.layers[0].DiffID] {
				t.Error("the layer was kept")
			}
		})
	}
}

// chunkedBlob answers for one blob without saying its length, and takes ranges.
func chunkedBlob(d digest.Digest, b []byte) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, d.String()) {
			return false
		}
		if r.Header.Get("Range") != "" {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write(b)
		return true
	}
}

// nestedIndex is a registry in which every index leads to another one, made for the occasion.
func nestedIndex(w http.ResponseWriter, r *http.Request) bool {
	body := []byte(nest("", 10))
	for i := range 10 {
		inner := []byte(nest("", i))
		if strings.HasSuffix(r.URL.Path, digest.FromBytes(inner).String()) {
			body = inner
		}
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	_, _ = w.Write(body)
	return true
}

func nest(body string, depth int) string {
	if depth == 0 {
		return `{"schemaVersion":2,"manifests":[]}`
	}
	inner := nest(body, depth-1)
	return fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, ocispec.MediaTypeImageIndex, digest.FromString(inner), len(inner))
}

func TestNotReachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	waits := 0
	c := newClient(t, Options{})
	c.shared.wait = func(ctx context.Context, _ time.Duration) error { waits++; return ctx.Err() }
	if _, err := c.Resolve(t.Context(), named(t, closed+"/i")); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "registry "+closed+" cannot be reached: nothing listens there") {
		t.Errorf("%v", err)
	}
	if waits != 0 {
		t.Errorf("waited %d times for a registry that never answered", waits)
	}
	n := newInternet(t)
	far := n.client(Options{})
	far.shared.dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "nowhere.example.com", IsNotFound: true}}
	}
	if _, err := far.Resolve(t.Context(), named(t, "nowhere.example.com/i")); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "there is no host of that name") {
		t.Errorf("%v", err)
	}
}

// TestPlainHTTP: over TLS unless the host is this machine or was named.
func TestPlainHTTP(t *testing.T) {
	n := newInternet(t)
	f := newFake()
	makeImage(t, imageOptions{sizes: []int{10}}).publish(f, "i", "latest")
	n.add("r.example.com:8080", f)
	n.add("r.example.com", f)
	if _, err := n.client(Options{}).Resolve(t.Context(), named(t, "r.example.com:8080/i")); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "speaks plain HTTP") {
		t.Errorf("%v", err)
	}
	if _, err := n.client(Options{Insecure: []string{"r.example.com:8080"}}).Resolve(t.Context(), named(t, "r.example.com:8080/i")); err != nil {
		t.Error(err)
	}
	if asked := n.requests(); slices.ContainsFunc(asked[:len(asked)-2], func(r string) bool { return strings.Contains(r, " http://") }) {
		t.Errorf("%q", asked)
	}
	stranger := n.client(Options{})
	stranger.shared.certsDir = ""
	if _, err := stranger.Resolve(t.Context(), named(t, "r.example.com/i")); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "signed by nobody that this machine trusts") {
		t.Errorf("%v", err)
	}
}

func TestInsecureAllows(t *testing.T) {
	in, err := parseInsecure([]string{"a.example.com", "b.example.com:5000", "10.1.0.0/16", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST:5000": true, "127.0.0.1": true, "127.9.9.9:80": true, "[::1]:5000": true, "[::ffff:127.0.0.1]:5000": true,
		"a.example.com": true, "a.example.com:444": true, "b.example.com:5000": true, "b.example.com": false, "b.example.com:5001": false,
		"10.1.2.3:5000": true, "10.2.2.3:5000": false, "[fd00::1]:5000": true, "[fe80::1]:5000": false,
		"localhost.example.com": false, "127.0.0.1.example.com": false, "registry-1.docker.io": false, "xn--localhost": false, "0.0.0.0": false,
	} {
		if got := in.allows(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
	for _, bad := range []string{"", "http://x", "a b", "x/y", "u@h"} {
		if _, err := parseInsecure([]string{bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestRegistryChangesItsScheme: a registry on this machine that comes back with TLS is found again.
func TestRegistryChangesItsScheme(t *testing.T) {
	f := newFake()
	makeImage(t, imageOptions{sizes: []int{10}}).publish(f, "i", "latest")
	plain := httptest.NewServer(f)
	address := plain.Listener.Addr().String()
	c := newClient(t, Options{})
	if _, err := c.Resolve(t.Context(), named(t, address+"/i")); err != nil {
		t.Fatal(err)
	}
	plain.Close()
	if _, err := c.Resolve(t.Context(), named(t, address+"/i")); !errdefs.IsUnavailable(err) {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("somebody else has taken the port: %v", err)
	}
	secure := httptest.NewUnstartedServer(f)
	secure.Listener = l
	secure.StartTLS()
	defer secure.Close()
	if _, err := c.Resolve(t.Context(), named(t, address+"/i")); err != nil {
		t.Error(err)
	}
}

// TestParallelAndOnce: layers are put at the same time, at most so many, and an equal one once.
func TestParallelAndOnce(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{10, 20, 30, 40, 50}})
	im.layers = append(im.layers, im.layers[0])
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: im.config}
	m.SchemaVersion = 2
	config := ocispec.Image{Platform: amd64(), RootFS: ocispec.RootFS{Type: "layers"}}
	for _, l := range im.layers {
		m.Layers = append(m.Layers, l.Blob)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
	}
	im.config = im.add(ocispec.MediaTypeImageConfig, mustJSON(t, config))
	m.Config = im.config
	im.root = im.add(m.MediaType, mustJSON(t, m))
	im.manifest, im.types[im.root.Digest] = im.root, m.MediaType
	f := newFake()
	im.publish(f, "i", "latest")

	const together = 3
	dst := newMemory(t)
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	dst.during = func(Layer) error {
		arrived <- struct{}{}
		<-release
		return nil
	}
	done := make(chan error)
	go func() {
		_, err := newClient(t, Options{Downloads: together}).Pull(t.Context(), named(t, serveFake(t, f)+"/i"), PullOptions{}, dst)
		done <- err
	}()
	for range together {
		<-arrived // none of them has to wait for another
	}
	if len(arrived) != 0 {
		t.Error("more than three together")
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	dst.checkHas(im)
	if len(dst.puts) != 5 {
		t.Errorf("%d layers were put, five differ", len(dst.puts))
	}
}

// TestPullsShare: of two pulls that need the same layer one fetches it; where that one fails, the other
// does.
func TestPullsShare(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{1000}})
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprint(fails), func(t *testing.T) {
			f := newFake()
			im.publish(f, "i", "latest")
			ref := named(t, serveFake(t, f)+"/i")
			c := newClient(t, Options{})
			dst := newMemory(t)
			inside, goOn := make(chan struct{}), make(chan struct{})
			var first sync.Once
			dst.during = func(Layer) (err error) {
				first.Do(func() {
					close(inside)
					<-goOn
					if fails {
						err = errTest
					}
				})
				return err
			}
			results := make(chan error, 2)
			go func() { _, err := c.Pull(t.Context(), ref, PullOptions{}, dst); results <- err }()
			<-inside
			waiting := make(chan struct{})
			go func() {
				_, err := c.As(nil).Pull(t.Context(), ref, PullOptions{Progress: func(e Event) {
					if e.Stage == Waiting {
						close(waiting)
					}
				}}, dst)
				results <- err
			}()
			<-waiting
			close(goOn)
			a, b := <-results, <-results
			if failed := errors.Is(a, errTest) || errors.Is(b, errTest); failed != fails || a != nil && b != nil {
				t.Errorf("%v, %v", a, b)
			}
			dst.checkHas(im)
			if want := map[bool]int{false: 1, true: 2}[fails]; len(dst.puts) != want {
				t.Errorf("put %d times, want %d", len(dst.puts), want)
			}
		})
	}
}

// TestCancel: the end of the context ends a pull in the middle of a layer that doesn't move.
func TestCancel(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{100_000}})
	f := newFake()
	im.publish(f, "i", "latest")
	inside := make(chan struct{})
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, im.layers[0].Blob.Digest.String()) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(im.layers[0].Blob.Size))
		_ = http.NewResponseController(w).Flush()
		close(inside)
		<-r.Context().Done()
		return true
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	dst := newMemory(t)
	go func() {
		_, err := newClient(t, Options{}).Pull(ctx, named(t, serveFake(t, f)+"/i"), PullOptions{}, dst)
		done <- err
	}()
	<-inside
	cancel(errTest)
	if err := <-done; !errors.Is(err, errTest) {
		t.Errorf("%v", err)
	}
	if len(dst.layers) != 0 {
		t.Error("a part of a layer was kept")
	}
}

// TestStalled: a connection that goes silent is given up, and another one made.
func TestStalled(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{100_000}})
	f := newFake()
	im.publish(f, "i", "latest")
	var stuck sync.Once
	f.before = func(w http.ResponseWriter, r *http.Request) (answered bool) {
		if !strings.HasSuffix(r.URL.Path, im.layers[0].Blob.Digest.String()) {
			return false
		}
		stuck.Do(func() {
			answered = true
			w.Header().Set("Content-Length", fmt.Sprint(im.layers[0].Blob.Size))
			_, _ = w.Write(im.blobs[im.layers[0].Blob.Digest][:500])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		return answered
	}
	c := newClient(t, Options{})
	c.shared.stall = time.Second
	dst := newMemory(t)
	if _, err := c.Pull(t.Context(), named(t, serveFake(t, f)+"/i"), PullOptions{}, dst); err != nil {
		t.Fatal(err)
	}
	dst.checkHas(im)
}

// TestRetryAfter: what passes is waited for as long as the registry says.
func TestRetryAfter(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{10}})
	f := newFake()
	im.publish(f, "i", "latest")
	answers := []int{429, 503, 500, 502}
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if r.URL.Path == "/v2/" || len(answers) == 0 {
			return false
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(answers[0])
		answers = answers[1:]
		return true
	}
	c := newClient(t, Options{})
	var waits []time.Duration
	c.shared.wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	if _, err := c.Pull(t.Context(), named(t, serveFake(t, f)+"/i"), PullOptions{}, newMemory(t)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(waits, slices.Repeat([]time.Duration{7 * time.Second}, 4)) {
		t.Errorf("waited %v", waits)
	}
	for header, want := range map[string]time.Duration{"": 0, "3": 3 * time.Second, "-1": 0, "x": 0, "Thu, 01 Jan 1970 00:01:40 GMT": 40 * time.Second, "Thu, 01 Jan 1970 00:00:40 GMT": 0, "99999999999": 0} {
		if got := retryAfter(header, time.Unix(60, 0)); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}

// TestMirror: Docker Hub's images come from a mirror, and from Docker Hub where it has them not.
func TestMirror(t *testing.T) {
	n := newInternet(t)
	mirror, hub := newFake(), newFake()
	n.add("mirror.example.com", http.StripPrefix("/hub", mirror))
	n.add("registry-1.docker.io", hub)
	im := makeImage(t, imageOptions{sizes: []int{10}})
	im.publish(mirror, "library/both", "latest")
	im.publish(hub, "library/both", "latest")
	im.publish(hub, "library/hub", "latest")
	c := n.client(Options{Mirrors: []string{"https://mirror.example.com/hub/"}})
	for _, name := range []string{"both", "hub"} {
		dst := newMemory(t)
		if _, err := c.Pull(t.Context(), named(t, name), PullOptions{}, dst); err != nil {
			t.Fatal(err)
		}
		dst.checkHas(im)
	}
	for _, r := range hub.requests() {
		if strings.Contains(r, "library/both") {
			t.Errorf("Docker Hub was asked: %s", r)
		}
	}
	for _, bad := range []string{"mirror.example.com", "http://mirror.example.com", "https://u:p@x", "ftp://x", "https://x?y"} {
		if _, err := New(Options{Mirrors: []string{bad}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestForeignLayer comes from the URL in its descriptor, where nobody is told who asks.
func TestForeignLayer(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{1000}})
	l := im.layers[0]
	f := newFake()
	f.guard = basic("me", "secret")
	host := serveFake(t, f)
	// At the registry's own host, even.
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/foreign" {
			return false
		}
		if r.Header.Get("Authorization") != "" {
			t.Error("it was told credentials")
		}
		f.sendBlob(w, r, l.Blob.Digest, im.blobs[l.Blob.Digest])
		return true
	}
	l.Blob.MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	l.Blob.URLs = []string{"http://not.loopback.example.com/x", "http://" + host + "/foreign"}
	m := ocispec.Manifest{MediaType: manifest.DockerManifest, Config: im.config, Layers: []ocispec.Descriptor{l.Blob}}
	m.SchemaVersion = 2
	f.addBlob("i", im.blobs[im.config.Digest])
	f.addManifest("i", "latest", m.MediaType, mustJSON(t, m))
	f.cuts[l.Blob.Digest] = []int{100}
	c := newClient(t, Options{Credentials: func(context.Context, string) (Credential, error) {
		return Credential{Username: "me", Password: "secret"}, nil
	}})
	dst := newMemory(t)
	if _, err := c.Pull(t.Context(), named(t, host+"/i"), PullOptions{}, dst); err != nil {
		t.Fatal(err)
	}
	dst.checkHas(&testImage{layers: []Layer{l}, blobs: im.blobs})
}

// TestProgress: what a terminal needs to know, in order.
func TestProgress(t *testing.T) {
	im := makeImage(t, imageOptions{sizes: []int{1 << 20}})
	f := newFake()
	im.publish(f, "i", "latest")
	ref := named(t, serveFake(t, f)+"/i")
	c := newClient(t, Options{})
	now := time.Now()
	c.shared.now = func() time.Time { now = now.Add(eventInterval); return now } // every read is told
	dst := newMemory(t)
	var stages []Stage
	last := int64(-1)
	tell := func(e Event) {
		if e.Digest != im.layers[0].Blob.Digest || e.Total != im.layers[0].Blob.Size || e.Current > e.Total {
			t.Errorf("%+v", e)
		}
		if e.Stage == Downloading {
			if e.Current < last {
				t.Errorf("backwards from %d to %d", last, e.Current)
			}
			last = e.Current
		}
		if len(stages) == 0 || stages[len(stages)-1] != e.Stage {
			stages = append(stages, e.Stage)
		}
	}
	for _, want := range [][]Stage{{Waiting, Downloading, Verified, Extracting, Done}, {Waiting, Exists}} {
		stages = nil
		if _, err := c.Pull(t.Context(), ref, PullOptions{Progress: tell}, dst); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(stages, want) {
			t.Errorf("%v, want %v", stages, want)
		}
	}
}
