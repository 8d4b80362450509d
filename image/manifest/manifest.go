package manifest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxSize is the most bytes that an index, a manifest or a config may have (distribution-spec 1.1,
// "Pushing Manifests": registries must take at least this).
const MaxSize = 4 << 20

// Docker's media types, beside those of OCI.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"

	dockerSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Accepted is the media types that Parse understands, in the order in which a registry is asked for them.
func Accepted() []string {
	return []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, DockerIndex, DockerManifest}
}

// Document is an index or a manifest: exactly one of the pointers is not nil.
type Document struct {
	MediaType string
	Index     *ocispec.Index
	Manifest  *ocispec.Manifest
}

// Descriptors are all that the document names: children of an index, or config and layers.
func (d Document) Descriptors() []ocispec.Descriptor {
	if d.Index != nil {
		return d.Index.Manifests
	}
	return append([]ocispec.Descriptor{d.Manifest.Config}, d.Manifest.Layers...)
}

// fields of a document that tell its kind. Their names are compared exactly: encoding/json would also
// take "Layers" for "layers", which other programs don't, and so read another image in the same bytes.
var kindFields = []string{"schemaVersion", "mediaType", "manifests", "layers", "config", "fsLayers", "blobs"}

// Parse reads an index or a manifest. mediaType is what came with it (a Content-Type, or a
// descriptor's); the document's own counts more, and must be of the same kind. Errors are
// errdefs.ErrInvalidArgument; the sentence does not name the document.
func Parse(mediaType string, data []byte) (Document, error) {
	if len(data) > MaxSize {
		return Document{}, tooLarge("manifest", int64(len(data)))
	}
	fields, err := topLevel(data)
	if err != nil {
		return Document{}, err
	}
	mediaType, _, _ = strings.Cut(mediaType, ";")
	own, err := stringField(fields, "mediaType")
	if err != nil {
		return Document{}, err
	}
	if isSchema1(fields, own, mediaType) {
		return Document{}, invalid("it is a manifest of schema version 1, which Docker gave up in 2019: " +
			"let somebody pull it with a Docker of that time, and push it again with a newer one")
	}
	_, hasManifests := fields["manifests"]
	_, hasLayers := fields["layers"]
	_, hasConfig := fields["config"]
	_, hasRootFS := fields["rootfs"]
	switch {
	case hasRootFS && !hasLayers && !hasManifests:
		return Document{}, invalid("it is the configuration of an image, and its digest the image's ID: give the ID alone, or the digest of the manifest")
	case hasManifests && (hasLayers || hasConfig):
		return Document{}, invalid("it can be read both as an index and as a manifest (it has \"manifests\" and also " +
			"\"layers\" or \"config\"): different programs would get different images out of it (CVE-2021-41190)")
	case hasManifests:
		return parseIndex(data, own, mediaType)
	case hasConfig || hasLayers:
		return parseManifest(data, own, mediaType)
	}
	return Document{}, invalid("it is neither a manifest nor an index")
}

// topLevel cuts a JSON object into its fields.
func topLevel(data []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, invalid("it is no JSON object: " + err.Error())
	}
	for name := range fields {
		for _, known := range kindFields {
			if name != known && strings.EqualFold(name, known) {
				return nil, invalid(fmt.Sprintf("it has a field %q, which some programs take for %q and some don't", name, known))
			}
		}
	}
	return fields, nil
}

func stringField(fields map[string]json.RawMessage, name string) (string, error) {
	raw, ok := fields[name]
	if !ok {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", invalid(fmt.Sprintf("its %q is no string", name))
	}
	return s, nil
}

func isSchema1(fields map[string]json.RawMessage, types ...string) bool {
	if _, ok := fields["fsLayers"]; ok {
		return true
	}
	if v, ok := fields["schemaVersion"]; ok && string(v) == "1" {
		return true
	}
	for _, t := range types {
		if t == dockerSchema1 || t == dockerSchema1Signed {
			return true
		}
	}
	return false
}

func parseIndex(data []byte, own, outer string) (Document, error) {
	if own != "" && !isIndexType(own) || isManifestType(outer) {
		return Document{}, contradiction("an index", own, outer)
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return Document{}, invalid("it is no index: " + err.Error())
	}
	for _, d := range index.Manifests {
		if err := checkDescriptor("an entry", d); err != nil {
			return Document{}, err
		}
	}
	return Document{MediaType: first(own, known(outer, isIndexType), ocispec.MediaTypeImageIndex), Index: &index}, nil
}

func parseManifest(data []byte, own, outer string) (Document, error) {
	if own != "" && !isManifestType(own) || isIndexType(outer) {
		return Document{}, contradiction("a manifest", own, outer)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Document{}, invalid("it is no manifest: " + err.Error())
	}
	if err := checkDescriptor("its config", m.Config); err != nil {
		return Document{}, err
	}
	for i, d := range m.Layers {
		if err := checkDescriptor(fmt.Sprintf("layer %d", i+1), d); err != nil {
			return Document{}, err
		}
	}
	return Document{MediaType: first(own, known(outer, isManifestType), ocispec.MediaTypeImageManifest), Manifest: &m}, nil
}

// CheckImage says whether a manifest is of a container image that can be run, with a sentence where it
// is something else (a chart, a signature, an encrypted image). Layers that are no tars are refused.
func CheckImage(m *ocispec.Manifest) error {
	if !IsConfig(m.Config.MediaType) {
		return invalid(fmt.Sprintf("it is no container image: its config is of type %q", m.Config.MediaType))
	}
	if m.ArtifactType != "" && m.Config.MediaType == ocispec.MediaTypeEmptyJSON {
		return invalid(fmt.Sprintf("it is no container image but an artifact of type %q", m.ArtifactType))
	}
	for i, d := range m.Layers {
		switch {
		case strings.HasSuffix(d.MediaType, "+encrypted"):
			return invalid(fmt.Sprintf("layer %d is encrypted (%s), and encrypted images can't be read", i+1, d.MediaType))
		case !IsLayer(d.MediaType):
			return invalid(fmt.Sprintf("layer %d is of type %q, which is no tar", i+1, d.MediaType))
		}
	}
	return nil
}

// IsConfig says whether a media type may be that of an image's config. Early registries lost it, and
// manifests from that time say what their web servers guessed.
func IsConfig(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageConfig, DockerConfig, "", "application/octet-stream", "application/json", "text/html", "text/plain; charset=utf-8":
		return true
	}
	return false
}

// IsLayer says whether a media type is a layer's: a tar, however compressed. How it is compressed is
// recognised by its bytes.
func IsLayer(mediaType string) bool {
	return !strings.HasSuffix(mediaType, "+encrypted") &&
		(strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.") ||
			strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs."))
}

// IsForeign says whether a media type is of a layer that may not be handed on, and is fetched from the
// URLs in its descriptor.
func IsForeign(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.")
}

func isIndexType(t string) bool { return t == ocispec.MediaTypeImageIndex || t == DockerIndex }

func isManifestType(t string) bool { return t == ocispec.MediaTypeImageManifest || t == DockerManifest }

func checkDescriptor(what string, d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return invalid(fmt.Sprintf("%s has the digest %.100q: %v", what, string(d.Digest), err))
	}
	if d.Size < 0 {
		return invalid(fmt.Sprintf("%s (%s) has a size of %d bytes", what, d.Digest, d.Size))
	}
	return nil
}

// Verify compares data with a descriptor. The error is errdefs.ErrDataLoss.
func Verify(desc ocispec.Descriptor, data []byte) error {
	if got := int64(len(data)); desc.Size != got {
		return errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("%s has %d bytes where %d belong", desc.Digest, got, desc.Size))
	}
	return VerifyDigest(desc.Digest, data)
}

// VerifyDigest compares data with a digest, which must be valid. The error is errdefs.ErrDataLoss.
func VerifyDigest(want digest.Digest, data []byte) error {
	if got := want.Algorithm().FromBytes(data); got != want {
		return errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("the digest of what was asked for is %s, of what came %s", want, got))
	}
	return nil
}

func tooLarge(what string, size int64) error {
	return invalid(fmt.Sprintf("its %s has %d bytes, at most %d are read", what, size, MaxSize))
}

func contradiction(shape, own, outer string) error {
	return invalid(fmt.Sprintf("it has the shape of %s but is declared as %q (in itself) and %q (by its sender)", shape, own, outer))
}

func known(t string, is func(string) bool) string {
	if is(t) {
		return t
	}
	return ""
}

func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

func invalid(sentence string) error { return errdefs.ErrInvalidArgument.WithMessage(sentence) }
