package cli

import "strings"

// What the command line needs of image references is little, and github.com/distribution/reference
// compiles its regular expressions at every start (3 ms where this program takes 2). So names are cut
// here, and judged by the engine; a test holds this against that package.

// registryHost is the registry of a reference as credentials are kept for it.
func registryHost(ref string) string {
	first, _, ok := strings.Cut(ref, "/")
	if !ok || (!strings.ContainsAny(first, ".:") && first != "localhost" && strings.ToLower(first) == first) {
		return "docker.io"
	}
	if first == "index.docker.io" {
		return "docker.io"
	}
	return first
}

// splitTag parts "name:tag" and "name@digest"; what is missing is empty.
func splitTag(ref string) (name, tag, digest string) {
	name, digest, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
	}
	return name, tag, digest
}

// familiar is the name as people write it: without docker.io/ and library/.
func familiar(ref string) string {
	if registryHost(ref) != "docker.io" {
		return ref
	}
	for _, prefix := range []string{"docker.io/", "index.docker.io/"} {
		ref = strings.TrimPrefix(ref, prefix)
	}
	if short, ok := strings.CutPrefix(ref, "library/"); ok && !strings.Contains(short, "/") {
		return short
	}
	return ref
}

// familiarWithTag adds ":latest" to a name that has neither tag nor digest.
func familiarWithTag(ref string) string {
	if _, tag, digest := splitTag(ref); tag == "" && digest == "" {
		ref += ":latest"
	}
	return familiar(ref)
}

// canonical is a name with everything that people leave out: "busybox" is docker.io/library/busybox:latest.
func canonical(ref string) string {
	name, tag, digest := splitTag(ref)
	host := registryHost(name)
	path := name
	if first, rest, ok := strings.Cut(name, "/"); ok && (first == host || first == "index.docker.io") {
		path = rest
	}
	if host == "docker.io" && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	out := host + "/" + path
	if tag == "" && digest == "" {
		tag = "latest"
	}
	if tag != "" {
		out += ":" + tag
	}
	if digest != "" {
		out += "@" + digest
	}
	return out
}
