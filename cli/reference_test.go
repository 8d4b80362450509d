package cli

import (
	"testing"

	"github.com/distribution/reference"
)

func checkReference(t *testing.T, ref string) {
	t.Helper()
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || reference.Domain(named) == "" {
		return // the engine says so, or that package is not at one with itself ("0_0.0/x")
	}
	if got, want := registryHost(ref), reference.Domain(named); got != want {
		t.Errorf("%q: the registry is %q, not %q", ref, got, want)
	}
	if got, want := canonical(ref), reference.TagNameOnly(named).String(); got != want {
		t.Errorf("%q: %q, not %q", ref, got, want)
	}
	if got, want := familiarWithTag(ref), reference.FamiliarString(reference.TagNameOnly(named)); got != want {
		t.Errorf("%q: familiar %q, not %q", ref, got, want)
	}
	wantTag, wantDigest := "", ""
	if tagged, ok := named.(reference.Tagged); ok {
		wantTag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		wantDigest = digested.Digest().String()
	}
	if _, tag, digest := splitTag(ref); tag != wantTag || digest != wantDigest {
		t.Errorf("%q: tag %q, digest %q", ref, tag, digest)
	}
}

const someDigest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func references() []string {
	return []string{
		"busybox", "busybox:1", "library/busybox", "docker.io/busybox", "docker.io/library/busybox:x", "index.docker.io/library/a", "index.docker.io/a/b:1",
		"me/image", "me/deep/image", "docker.io/me/image", "localhost/x", "localhost:5000/x", "x:5000/y:1", "host.example/x", "Host/x", "UPPER/x",
		"ghcr.io/o/i:t", "quay.io/o/i", "127.0.0.1:5000/a/b/c:1.2-x_y", "[::1]:5000/x", "busybox" + someDigest, "r.example:5000/a/b:1" + someDigest, "docker.io/library/a/b",
	}
}

// TestReferences holds the cutting of names against the package that the engine uses.
func TestReferences(t *testing.T) {
	for _, ref := range references() {
		if _, err := reference.ParseNormalizedNamed(ref); err != nil {
			t.Logf("%q: %v", ref, err)
		}
		checkReference(t, ref)
	}
}

func FuzzReferences(f *testing.F) {
	for _, ref := range references() {
		f.Add(ref)
	}
	f.Fuzz(checkReference)
}
