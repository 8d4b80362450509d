package api

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// TestNewest: what is announced is what the wire types in go.mod are.
func TestNewest(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	swagger, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "swagger.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `basePath: "/v` + newest.String() + `"`; !strings.Contains(string(swagger), want) {
		t.Errorf("the types' API has no %s", want)
	}
}

func TestVersions(t *testing.T) {
	for path, want := range map[string][2]string{
		"/v1.41/info": {"1.41", "/info"}, "/v1.41/containers/v1/json": {"1.41", "/containers/v1/json"}, "/info": {"", "/info"}, "/volumes": {"", "/volumes"}, "/v1.41": {"", "/v1.41"},
	} {
		if text, rest, ok := cutVersion(path); text != want[0] || rest != want[1] || ok != (want[0] != "") {
			t.Errorf("%s: %q %q %v", path, text, rest, ok)
		}
	}
	for _, bad := range []string{"", "1", "1.", ".1", "1.x", "-1.2"} {
		if _, err := parseVersion(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if v, err := parseVersion("1.9"); err != nil || !v.less(oldest) || !v.before(38) || newest.less(oldest) {
		t.Errorf("1.9: %v %v", v, err)
	}
}
