package manifest

import (
	"fmt"
	"sort"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// referenceType is the annotation by which BuildKit marks entries of an index that belong to another
// entry: attestations (provenance, bills of materials).
const referenceType = "vnd.docker.reference.type"

// IsAttestation says whether an entry of an index describes another entry and is no image.
func IsAttestation(d ocispec.Descriptor) bool {
	if d.Annotations[referenceType] != "" {
		return true
	}
	return d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// Matcher is what Choose goes by: platform, or where it is nil this machine's.
func Matcher(platform *ocispec.Platform) platforms.MatchComparer {
	if platform == nil {
		return platforms.Default()
	}
	return platforms.Only(*platform)
}

// Choose returns the entry of an index that fits platform best (nil: this machine). Attestations never
// do. An entry that names no platform is taken where no other fits and it is the only one of its kind;
// its config says what it is. Else the error is errdefs.ErrNotFound and lists what there is.
func Choose(index *ocispec.Index, platform *ocispec.Platform) (ocispec.Descriptor, error) {
	match := Matcher(platform)
	var best, unnamed *ocispec.Descriptor
	several := false
	for i := range index.Manifests {
		d := &index.Manifests[i]
		switch {
		case IsAttestation(*d):
		case d.Platform == nil:
			several = unnamed != nil
			unnamed = d
		case match.Match(*d.Platform) && (best == nil || match.Less(*d.Platform, *best.Platform)):
			best = d
		}
	}
	switch {
	case best != nil:
		return *best, nil
	case unnamed != nil && !several:
		return *unnamed, nil
	}
	return ocispec.Descriptor{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
		"no matching manifest for %s in the manifest list entries: there is %s", wanted(platform), offered(index)))
}

// CheckPlatform says whether an image is for platform, with a sentence where it isn't. nil takes any.
func CheckPlatform(have ocispec.Platform, platform *ocispec.Platform) error {
	if platform == nil || Matcher(platform).Match(have) {
		return nil
	}
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
		"it does not provide the platform %s: it is for %s", platforms.Format(*platform), platforms.Format(have)))
}

func wanted(platform *ocispec.Platform) string {
	if platform == nil {
		return platforms.Format(platforms.DefaultSpec())
	}
	return platforms.Format(*platform)
}

// offered lists the platforms of an index.
func offered(index *ocispec.Index) string {
	const most = 20
	var list []string
	seen := map[string]bool{}
	for _, d := range index.Manifests {
		if d.Platform == nil || IsAttestation(d) {
			continue
		}
		if p := platforms.Format(platforms.Normalize(*d.Platform)); !seen[p] {
			seen[p] = true
			list = append(list, p)
		}
	}
	sort.Strings(list)
	if len(list) > most {
		list = append(list[:most], "others")
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
