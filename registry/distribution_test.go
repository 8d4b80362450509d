package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// startDistribution runs Debian's docker-registry on loopback and returns its address and the directory
// of its blobs. With login, it wants user "me" and password "secret".
func startDistribution(t *testing.T, login bool) (host, storage string) {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("no docker-registry here (apt-get install docker-registry)")
	}
	for range 5 {
		host, storage, err = tryDistribution(t, program, login)
		if err == nil {
			return host, storage
		}
	}
	t.Fatal(err)
	return "", ""
}

// tryDistribution picks a port, which somebody else may take before the registry does.
func tryDistribution(t *testing.T, program string, login bool) (host, storage string, err error) {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s/data\n  delete:\n    enabled: true\nhttp:\n  addr: %s\n", dir, host)
	if login {
		config += fmt.Sprintf("auth:\n  htpasswd:\n    realm: test\n    path: %s/htpasswd\n", dir)
		if err := os.WriteFile(filepath.Join(dir, "htpasswd"), []byte("me:$2a$05$oNrBCx1zqF/iBA7BuQEz1OWYOjeER6Nwmd9CoBcvZNWR4DSqq/A.e\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(program, "serve", path)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("docker-registry said:\n%s", out.String())
		}
	})
	return host, filepath.Join(dir, "data/docker/registry/v2/blobs/sha256"), waitFor("http://"+host+"/v2/", ended)
}

// waitFor waits until something answers, or the program that should has ended.
func waitFor(address string, ended <-chan struct{}) error {
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := http.Get(address)
		if err == nil {
			resp.Body.Close()
			return nil
		}
		select {
		case <-ended:
			return errors.New("docker-registry ended at once")
		case <-deadline:
			return fmt.Errorf("docker-registry does not answer: %w", err)
		case <-tick.C:
		}
	}
}

func blobFile(storage string, d digest.Digest) string {
	return filepath.Join(storage, d.Encoded()[:2], d.Encoded(), "data")
}

// TestDistribution goes the whole way, there and back, with the registry that most others come from.
func TestDistribution(t *testing.T) {
	for _, docker := range []bool{false, true} {
		t.Run(fmt.Sprintf("docker=%v", docker), func(t *testing.T) {
			host, _ := startDistribution(t, false)
			one := makeImage(t, imageOptions{docker: docker, sizes: []int{3 << 20, 0, 5000}, seed: 1})
			two := makeImage(t, imageOptions{docker: docker, sizes: []int{500}, seed: 2, platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}})
			index := makeIndex(t, docker, one, two)
			c := newClient(t, Options{})
			src := newMemory(t)
			src.hold(index)
			if err := c.Push(t.Context(), named(t, host+"/team/app:v1"), index.root, src, PushOptions{}); err != nil {
				t.Fatal(err)
			}
			dst := newMemory(t)
			p := amd64()
			got, err := c.Pull(t.Context(), named(t, host+"/team/app:v1"), PullOptions{Platform: &p}, dst)
			if err != nil {
				t.Fatal(err)
			}
			dst.checkHas(one)
			if got.Ref.Digest != index.root.Digest {
				t.Errorf("pushed %s, pulled %s", index.root.Digest, got.Ref.Digest)
			}
			// Chunks are understood as it understands them.
			c.shared.chunk = 1 << 20
			r := c.repository(c.endpointOf(host), named(t, host+"/chunks"), "pull,push")
			up := &push{repository: r, from: src, report: &reporter{}}
			if err := up.tryUpload(t.Context(), one.layers[0].Blob, nil, up.chunks); err != nil {
				t.Fatal(err)
			}
			if has, err := up.hasBlob(t.Context(), one.layers[0].Blob.Digest); err != nil || !has {
				t.Errorf("%v %v", has, err)
			}
			// And sharing between repositories: nothing is read here.
			empty := newMemory(t)
			empty.from = []reference.Named{named(t, host+"/team/app")}
			empty.blobs = map[digest.Digest][]byte{one.manifest.Digest: one.blobs[one.manifest.Digest]}
			if err := c.Push(t.Context(), named(t, host+"/team/shared"), one.manifest, empty, PushOptions{}); err != nil {
				t.Error(err)
			}
			dst = newMemory(t)
			if _, err := c.Pull(t.Context(), named(t, host+"/team/shared"), PullOptions{}, dst); err != nil {
				t.Fatal(err)
			}
			dst.checkHas(one)
			for ref, says := range map[string]string{
				"/team/app:v2": "manifest for " + host + "/team/app:v2 not found: manifest unknown",
				"/nobody/i":    "not found: manifest unknown", // it does not tell the two apart
			} {
				if _, err := c.Resolve(t.Context(), named(t, host+ref)); !errdefs.IsNotFound(err) || !strings.HasSuffix(err.Error(), says) {
					t.Errorf("%s: %v", ref, err)
				}
			}
		})
	}
}

func TestDistributionLogin(t *testing.T) {
	host, _ := startDistribution(t, true)
	im := makeImage(t, imageOptions{sizes: []int{1000}})
	src := newMemory(t)
	src.hold(im)
	c := newClient(t, Options{})
	if _, err := c.Login(t.Context(), host, Credential{Username: "me", Password: "secret"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Login(t.Context(), host, Credential{Username: "me", Password: "Secret"}); !errdefs.IsUnauthorized(err) || !strings.Contains(err.Error(), "incorrect username or password") {
		t.Errorf("%v", err)
	}
	as := func(password string) *Client {
		return c.As(func(context.Context, string) (Credential, error) {
			return Credential{Username: "me", Password: password}, nil
		})
	}
	ref := named(t, host+"/i")
	if err := c.Push(t.Context(), ref, im.root, src, PushOptions{}); !errdefs.IsPermissionDenied(err) {
		t.Errorf("%v", err)
	}
	if err := as("secret").Push(t.Context(), ref, im.root, src, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := as("wrong").Pull(t.Context(), ref, PullOptions{}, newMemory(t)); !errdefs.IsUnauthorized(err) || !strings.Contains(err.Error(), "incorrect username or password") {
		t.Errorf("%v", err)
	}
	dst := newMemory(t)
	if _, err := as("secret").Pull(t.Context(), ref, PullOptions{}, dst); err != nil {
		t.Fatal(err)
	}
	dst.checkHas(im)
}

// TestDistributionDamage: bits that flip on the registry's disk, and files cut short there.
func TestDistributionDamage(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"flipped bit": func(b []byte) []byte { b[len(b)/2] ^= 0x10; return b },
		"truncated":   func(b []byte) []byte { return b[:len(b)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			host, storage := startDistribution(t, false)
			im := makeImage(t, imageOptions{sizes: []int{1 << 20}})
			src := newMemory(t)
			src.hold(im)
			c := newClient(t, Options{})
			ref := named(t, host+"/i")
			if err := c.Push(t.Context(), ref, im.root, src, PushOptions{}); err != nil {
				t.Fatal(err)
			}
			path := blobFile(storage, im.layers[0].Blob.Digest)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			dst := newMemory(t)
			_, err = c.Pull(t.Context(), ref, PullOptions{}, dst)
			if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), im.layers[0].Blob.Digest.String()) {
				t.Errorf("%v", err)
			}
			if len(dst.layers) != 0 {
				t.Error("a damaged layer was kept")
			}
		})
	}
}

// TestDistributionCut: the line breaks again and again; what is missing comes over a new one.
func TestDistributionCut(t *testing.T) {
	host, _ := startDistribution(t, false)
	im := makeImage(t, imageOptions{sizes: []int{4 << 20}})
	src := newMemory(t)
	src.hold(im)
	c := newClient(t, Options{})
	if err := c.Push(t.Context(), named(t, host+"/i"), im.root, src, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	proxy, lines := cuttingProxy(t, host, 1500<<10)
	dst := newMemory(t)
	if _, err := c.Pull(t.Context(), named(t, proxy+"/i"), PullOptions{}, dst); err != nil {
		t.Fatal(err)
	}
	dst.checkHas(im)
	if n := lines.Load(); n < 3 || n > 8 {
		t.Errorf("%d connections", n)
	}
}

// cuttingProxy passes connections on to host, and breaks each after so many bytes from there.
func cuttingProxy(t *testing.T, host string, after int64) (address string, lines *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	lines = new(atomic.Int64)
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			lines.Add(1)
			go func() {
				defer near.Close()
				far, err := net.Dial("tcp", host)
				if err != nil {
					return
				}
				defer far.Close()
				go func() { _, _ = io.Copy(far, near) }()
				_, _ = io.CopyN(near, far, after)
			}()
		}
	}()
	return l.Addr().String(), lines
}
