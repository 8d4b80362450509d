// Package arrows checks the structure: which room may import which, and what the programs link.
package arrows

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/berth-engine/berth/"

// below lists, for each room, the rooms that it may import (itself and internal/ always). Arrows go
// down only; what isn't here is a new arrow, to be drawn in ARCHITECTURE.md first.
var below = map[string][]string{
	"cmd/berth":         {"cli"},
	"cmd/berthd":        {"api", "engine", "layer", "registry"},
	"cmd/berth-runtime": {"runtime"},
	"cli":               {"api/wire", "build/session"},
	"api":               {"api/wire", "engine", "build", "build/session", "container", "network", "volume", "registry", "image", "layer", "runtime", "content"},
	"api/wire":          {},
	"engine":            {"build", "container", "network", "volume", "registry", "image", "layer", "runtime", "content"},
	"build":             {"build/session", "layer", "content"},
	"build/session":     {},
	"container":         {},
	"network":           {},
	"volume":            {},
	"registry":          {"image"},
	"image":             {"content"},
	"layer":             {},
	"runtime":           {},
	"content":           {},
	"internal":          {},
}

// partOf names packages that lie in another room's folder: the engine's half of a build's session is the
// builder's, the rest of the session is what the command line links.
var partOf = map[string]string{"build/session/server": "build"}

// room is the longest listed prefix of a package's path in the module.
func room(path string) string {
	if r, ok := partOf[path]; ok {
		return r
	}
	best := ""
	for r := range below {
		if (path == r || strings.HasPrefix(path, r+"/")) && len(r) > len(best) {
			best = r
		}
	}
	return best
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("go list: %s", failed.Stderr)
		}
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestArrows(t *testing.T) {
	for _, p := range list(t, "./...") {
		path, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok || strings.HasPrefix(path, "test/") {
			continue
		}
		from := room(path)
		if from == "" {
			t.Errorf("%s lies in no room that is known", path)
			continue
		}
		for _, imported := range p.Imports {
			to, ok := strings.CutPrefix(imported, module)
			if !ok {
				continue
			}
			r := room(to)
			if r != from && r != "internal" && !slices.Contains(below[from], r) {
				t.Errorf("%s imports %s: no arrow goes from %s to %s", path, to, from, r)
			}
		}
	}
}

// TestLinks: what is only linked in costs start-up time and memory, once for every command and container.
func TestLinks(t *testing.T) {
	for program, forbidden := range map[string][]string{
		"cmd/berth-runtime": {"net/http", "net", "crypto/tls", "google.golang.org/protobuf", "github.com/spf13/cobra", "github.com/moby/profiles", "github.com/vishvananda/netlink"},
		"cmd/berth": {
			"google.golang.org/protobuf", "google.golang.org/grpc", "github.com/moby/buildkit", "github.com/moby/moby/client",
			"github.com/docker/cli/opts", "github.com/docker/cli/cli/command", "go.opentelemetry.io/otel", "github.com/vishvananda/netlink",
		},
	} {
		for _, p := range list(t, "-deps", "./"+program) {
			for _, f := range forbidden {
				if p.ImportPath == f || strings.HasPrefix(p.ImportPath, f+"/") && f != "net" {
					t.Errorf("%s links %s", program, p.ImportPath)
				}
			}
		}
	}
}
