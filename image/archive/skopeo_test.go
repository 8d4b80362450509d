package archive

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// skopeo runs a copy between two of skopeo's transports.
func skopeo(t *testing.T, args ...string) {
	t.Helper()
	program, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("no skopeo here (apt-get install skopeo)")
	}
	cmd := exec.Command(program, append([]string{"--insecure-policy", "--tmpdir", t.TempDir(), "--override-os", "linux", "--override-arch", "amd64", "copy"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("skopeo %q: %v\n%s", args, err, out)
	}
}

// fromLayout returns the digests of manifest and config of the only image of a layout directory.
func fromLayout(t *testing.T, dir string) (manifestDigest, config digest.Digest) {
	t.Helper()
	var index ocispec.Index
	var m ocispec.Manifest
	readJSON(t, filepath.Join(dir, "index.json"), &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("%+v", index.Manifests)
	}
	d := index.Manifests[0].Digest
	readJSON(t, filepath.Join(dir, "blobs/sha256", d.Encoded()), &m)
	return d, m.Config.Digest
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

// TestSkopeoReads: what Write writes is read by the library that podman and buildah stand on, in both of
// its forms, and stays the same image.
func TestSkopeoReads(t *testing.T) {
	src := newMemory()
	one, two := makeImage(t, src, amd64(), "one"), makeImage(t, src, amd64(), "two")
	dir := t.TempDir()
	write := func(name string, images ...Named) string {
		path := filepath.Join(dir, name)
		var b bytes.Buffer
		if err := Write(t.Context(), &b, images, src); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	single := write("one.tar", Named{one, tags(t, "x:v1")})
	both := write("both.tar", Named{one, tags(t, "x:v1")}, Named{two, tags(t, "example.com/y:v2")})
	for name, tt := range map[string]struct {
		from     string
		image    ocispec.Descriptor
		manifest bool // the manifest is the same, too
	}{
		"docker-archive":                  {"docker-archive:" + single, one, false},
		"docker-archive by name":          {"docker-archive:" + both + ":example.com/y:v2", two, false},
		"oci-archive":                     {"oci-archive:" + single, one, true},
		"oci-archive by name":             {"oci-archive:" + both + ":v2", two, true},
		"docker-archive, another by name": {"docker-archive:" + both + ":x:v1", one, false},
	} {
		t.Run(name, func(t *testing.T) {
			to := t.TempDir()
			args := []string{tt.from, "oci:" + to}
			if tt.manifest { // else it compresses what isn't
				args = append([]string{"--preserve-digests"}, args...)
			}
			skopeo(t, args...)
			m, c := fromLayout(t, to)
			var want ocispec.Manifest
			if err := json.Unmarshal(src.blobs[tt.image.Digest], &want); err != nil {
				t.Fatal(err)
			}
			if c != want.Config.Digest {
				t.Errorf("image %s, want %s", c, want.Config.Digest)
			}
			if tt.manifest && m != tt.image.Digest {
				t.Errorf("manifest %s, want %s", m, tt.image.Digest)
			}
		})
	}
}

// TestSkopeoWrites: what it writes, Read reads.
func TestSkopeoWrites(t *testing.T) {
	src := newMemory()
	one := makeImage(t, src, amd64(), "one")
	dir := t.TempDir()
	ours := filepath.Join(dir, "ours.tar")
	var b bytes.Buffer
	if err := Write(t.Context(), &b, []Named{{one, nil}}, src); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ours, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var want ocispec.Manifest
	if err := json.Unmarshal(src.blobs[one.Digest], &want); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"docker-archive", "oci-archive"} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(dir, kind+".tar")
			args := []string{"oci-archive:" + ours, kind + ":" + path + ":example.com/y:v1"}
			if kind == "oci-archive" {
				args = append([]string{"--preserve-digests"}, args...)
			}
			skopeo(t, args...)
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, err := Read(t.Context(), f, ReadOptions{TempDir: t.TempDir()}, newMemory())
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0].Config.Digest != want.Config.Digest || len(got[0].Tags) != 1 || got[0].Tags[0].String() != "example.com/y:v1" {
				t.Errorf("%+v", got)
			}
			if kind == "oci-archive" && got[0].Manifest.Digest != one.Digest {
				t.Errorf("manifest %s, want %s", got[0].Manifest.Digest, one.Digest)
			}
		})
	}
}
