package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	hexA   = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	config = `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + hexA + `","size":2}`
	layer  = `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:` + hexA + `","size":3}`
	child  = `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + hexA + `","size":4,"platform":{"os":"linux","architecture":"amd64"}}`
)

func TestParse(t *testing.T) {
	const image = `"config":` + config + `,"layers":[` + layer + `]`
	for _, tt := range []struct {
		name, outer, in string
		want            string // media type
		says            string // or the refusal
	}{
		{name: "OCI manifest", outer: ocispec.MediaTypeImageManifest, in: `{"schemaVersion":2,` + image + `}`, want: ocispec.MediaTypeImageManifest},
		{name: "Docker manifest", outer: DockerManifest, in: `{"schemaVersion":2,"mediaType":"` + DockerManifest + `",` + image + `}`, want: DockerManifest},
		{name: "its own type counts more", outer: DockerManifest, in: `{"mediaType":"` + ocispec.MediaTypeImageManifest + `",` + image + `}`, want: ocispec.MediaTypeImageManifest},
		{name: "by its shape", outer: "text/plain", in: `{` + image + `}`, want: ocispec.MediaTypeImageManifest},
		{name: "with a parameter", outer: DockerManifest + "; charset=utf-8", in: `{` + image + `}`, want: DockerManifest},
		{name: "OCI index", in: `{"manifests":[` + child + `]}`, want: ocispec.MediaTypeImageIndex},
		{name: "Docker index", outer: DockerIndex, in: `{"manifests":[` + child + `]}`, want: DockerIndex},
		{name: "no layers", in: `{"config":` + config + `}`, want: ocispec.MediaTypeImageManifest},
		{name: "both", in: `{"manifests":[],` + image + `}`, says: "CVE-2021-41190"},
		{name: "both, by its config", in: `{"manifests":[],"config":` + config + `}`, says: "CVE-2021-41190"},
		{name: "both, in other letters", in: `{"manifests":[],"Layers":[]}`, says: `a field "Layers"`},
		{name: "neither", in: `{"schemaVersion":2}`, says: "neither a manifest nor an index"},
		{name: "an artifact of an older kind", in: `{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[]}`, says: "neither"},
		{name: "declared as an index", outer: ocispec.MediaTypeImageIndex, in: `{` + image + `}`, says: "shape of a manifest but is declared as"},
		{name: "says it is an index", in: `{"mediaType":"` + DockerIndex + `",` + image + `}`, says: "shape of a manifest but is declared as"},
		{name: "declared as a manifest", outer: DockerManifest, in: `{"manifests":[]}`, says: "shape of an index but is declared as"},
		{name: "says it is something", in: `{"mediaType":"text/html","manifests":[]}`, says: "shape of an index but is declared as"},
		{name: "schema 1 by number", in: `{"schemaVersion":1,"name":"x"}`, says: "schema version 1"},
		{name: "schema 1 by fields", in: `{"fsLayers":[]}`, says: "schema version 1"},
		{name: "schema 1 by type", outer: dockerSchema1Signed, in: `{}`, says: "schema version 1"},
		{name: "no JSON", in: `<html>`, says: "no JSON object"},
		{name: "a list", in: `[]`, says: "no JSON object"},
		{name: "nothing", in: ``, says: "no JSON object"},
		{name: "null", in: `null`, says: "neither"},
		{name: "odd media type", in: `{"mediaType":3,` + image + `}`, says: `"mediaType" is no string`},
		{name: "odd layers", in: `{"config":` + config + `,"layers":{}}`, says: "no manifest"},
		{name: "odd entries", in: `{"manifests":3}`, says: "no index"},
		{name: "an image's configuration", in: `{"architecture":"amd64","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":[]}}`, says: "its digest the image's ID"},
		{name: "config without digest", in: `{"config":{},"layers":[]}`, says: "its config has the digest"},
		{name: "digest with a path", in: `{"config":` + config + `,"layers":[{"digest":"sha256:../../etc/passwd","size":1}]}`, says: "layer 1 has the digest"},
		{name: "unknown algorithm", in: `{"config":` + config + `,"layers":[{"digest":"md5:` + hexA[:32] + `","size":1}]}`, says: "layer 1 has the digest"},
		{name: "negative size", in: `{"manifests":[{"digest":"sha256:` + hexA + `","size":-1}]}`, says: "a size of -1 bytes"},
		{name: "too large", in: strings.Repeat(" ", MaxSize+1), says: "at most 4194304"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.outer, []byte(tt.in))
			if tt.says != "" {
				if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || got.MediaType != tt.want || (got.Index == nil) == (got.Manifest == nil) || len(got.Descriptors()) == 0 {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestCheckImage(t *testing.T) {
	make := func(config string, layers ...string) *ocispec.Manifest {
		m := &ocispec.Manifest{Config: ocispec.Descriptor{MediaType: config}}
		for _, l := range layers {
			m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: l})
		}
		return m
	}
	good := []string{
		ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		"application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
	}
	for _, c := range []string{ocispec.MediaTypeImageConfig, DockerConfig, "application/octet-stream"} {
		if err := CheckImage(make(c, good...)); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
	for says, m := range map[string]*ocispec.Manifest{
		"no container image: its config is of type \"application/vnd.cncf.helm.config.v1+json\"": make("application/vnd.cncf.helm.config.v1+json"),
		"no container image: its config is of type \"application/vnd.oci.empty.v1+json\"":        make(ocispec.MediaTypeEmptyJSON),
		"layer 2 is encrypted": make(DockerConfig, good[0], good[1]+"+encrypted"),
		"layer 1 is of type \"application/vnd.in-toto+json\", which is no tar": make(ocispec.MediaTypeImageConfig, "application/vnd.in-toto+json"),
	} {
		if err := CheckImage(m); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v", err)
		}
	}
	for _, l := range good {
		if want := strings.Contains(l, "foreign") || strings.Contains(l, "nondistributable"); IsForeign(l) != want {
			t.Errorf("%s: foreign %v", l, !want)
		}
	}
}

func TestParseConfig(t *testing.T) {
	c, err := ParseConfig([]byte(`{"os":"linux","architecture":"aarch64","variant":"v8","rootfs":{"type":"layers","diff_ids":["sha256:` + hexA + `"]}}`))
	if err != nil || len(c.DiffIDs) != 1 || c.Platform.Architecture != "arm64" || c.Platform.Variant != "" {
		t.Errorf("%+v, %v", c, err)
	}
	for in, says := range map[string]string{
		`[]`:                           "not what an image has",
		`{"rootfs":{"type":"squash"}}`: "of type \"squash\"",
		`{"rootfs":{"diff_ids":["sha256:../../x"]}}`: "layer 1 the diffID",
		strings.Repeat(" ", MaxSize+1):               "at most",
	} {
		if _, err := ParseConfig([]byte(in)); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("%.50s: %v", in, err)
		}
	}
	if err := CheckLayers(&ocispec.Manifest{}, c); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

func TestChoose(t *testing.T) {
	entry := func(name, os, arch, variant string) ocispec.Descriptor {
		d := ocispec.Descriptor{Digest: digest.FromString(name)}
		if os != "" {
			d.Platform = &ocispec.Platform{OS: os, Architecture: arch, Variant: variant}
		}
		return d
	}
	attestation := entry("attestation", "linux", "amd64", "")
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	all := []ocispec.Descriptor{
		attestation, entry("unknown", "unknown", "unknown", ""), entry("windows", "windows", "amd64", ""),
		entry("v6", "linux", "arm", "v6"), entry("v7", "linux", "arm", "v7"), entry("arm64", "linux", "arm64", "v8"), entry("amd64", "linux", "amd64", ""),
	}
	for _, tt := range []struct {
		entries           []ocispec.Descriptor
		os, arch, variant string
		want, says        string
	}{
		{all, "linux", "amd64", "", "amd64", ""},
		{all, "linux", "arm64", "", "arm64", ""},
		{all, "linux", "arm", "v7", "v7", ""},
		{all, "linux", "arm", "v6", "v6", ""},
		{all[:4], "linux", "arm", "v7", "v6", ""},
		{all[:5], "linux", "arm64", "", "v7", ""}, // a 64-bit machine runs it
		{all, "linux", "s390x", "", "", "no matching manifest for linux/s390x in the manifest list entries: there is linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64, windows/amd64"},
		{all[:2], "linux", "amd64", "", "", "there is none"},
		{[]ocispec.Descriptor{attestation, entry("plain", "", "", "")}, "linux", "amd64", "", "plain", ""},
		{[]ocispec.Descriptor{entry("plain", "", "", ""), entry("other", "", "", "")}, "linux", "amd64", "", "", "there is none"},
		{nil, "linux", "amd64", "", "", "there is none"},
	} {
		p := ocispec.Platform{OS: tt.os, Architecture: tt.arch, Variant: tt.variant}
		got, err := Choose(&ocispec.Index{Manifests: tt.entries}, &p)
		if tt.want != "" && (err != nil || got.Digest != digest.FromString(tt.want)) {
			t.Errorf("%+v: %v, %v, want %s", p, got, err, tt.want)
		}
		if tt.says != "" && (!errdefs.IsNotFound(err) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if got, err := Choose(&ocispec.Index{Manifests: all}, nil); err != nil || IsAttestation(got) {
		t.Errorf("this machine: %v, %v", got, err)
	}
}

func TestVerify(t *testing.T) {
	d := ocispec.Descriptor{Digest: digest.FromString("abc"), Size: 3}
	if err := Verify(d, []byte("abc")); err != nil {
		t.Error(err)
	}
	for _, b := range []string{"abd", "ab", ""} {
		if err := Verify(d, []byte(b)); !errdefs.IsDataLoss(err) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("", []byte(`{"schemaVersion":2,"config":`+config+`,"layers":[`+layer+`]}`))
	f.Add(DockerIndex, []byte(`{"manifests":[`+child+`],"mediaType":"`+DockerIndex+`"}`))
	f.Add("", []byte(`{"manifests":[],"Layers":[],"fsLayers":null}`))
	f.Fuzz(func(t *testing.T, mediaType string, data []byte) {
		doc, err := Parse(mediaType, data)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%T %v", err, err)
			}
			return
		}
		if (doc.Index == nil) == (doc.Manifest == nil) {
			t.Fatal("not one of the two")
		}
		for _, d := range doc.Descriptors() {
			if d.Digest.Validate() != nil || d.Size < 0 {
				t.Errorf("%+v", d)
			}
		}
		var fields map[string]json.RawMessage
		if json.Unmarshal(data, &fields) != nil || fields["manifests"] != nil && fields["layers"] != nil {
			t.Error("ambiguous")
		}
		if doc.Index != nil {
			if got, err := Choose(doc.Index, nil); err == nil && IsAttestation(got) {
				t.Error("an attestation was chosen")
			}
		} else if CheckImage(doc.Manifest) == nil && bytes.Contains([]byte(fmt.Sprint(doc.Manifest.Layers)), []byte("+encrypted ")) {
			t.Error("encrypted")
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","architecture":"arm","variant":"v7","rootfs":{"type":"layers","diff_ids":["sha256:` + hexA + `"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data)
		if err != nil {
			return
		}
		for _, d := range c.DiffIDs {
			if d.Validate() != nil {
				t.Errorf("%q", d)
			}
		}
		if c.Platform.OS == "" || c.Platform.Architecture == "" {
			t.Errorf("%+v", c.Platform)
		}
	})
}
