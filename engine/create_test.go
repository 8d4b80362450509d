package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/image"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

func imageWith(cmd, entrypoint []string) *image.Config {
	c := &image.Config{}
	c.Config.Cmd, c.Config.Entrypoint = cmd, entrypoint
	c.Config.Env = []string{"PATH=/bin", "A=image"}
	c.Config.Labels = map[string]string{"from": "image", "only": "image"}
	c.Config.Volumes = map[string]struct{}{"/data": {}, "/mine/": {}}
	c.Config.ExposedPorts = map[string]struct{}{"80/tcp": {}}
	c.Config.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD", "probe"}, Interval: time.Second, Retries: 5}
	return c
}

// TestCommandLine is the table of the Dockerfile reference, "Understand how CMD and ENTRYPOINT interact", with
// what the user says.
func TestCommandLine(t *testing.T) {
	for name, c := range map[string]struct {
		img  *image.Config
		user container.Process
		want []string
	}{
		"the image's":          {imageWith([]string{"c"}, []string{"e"}), container.Process{}, []string{"e", "c"}},
		"a command":            {imageWith([]string{"c"}, []string{"e"}), container.Process{Cmd: []string{"u"}}, []string{"e", "u"}},
		"an entrypoint":        {imageWith([]string{"c"}, []string{"e"}), container.Process{Entrypoint: []string{"u"}}, []string{"u"}},
		"both":                 {imageWith([]string{"c"}, []string{"e"}), container.Process{Entrypoint: []string{"u"}, Cmd: []string{"v"}}, []string{"u", "v"}},
		"entrypoint taken off": {imageWith([]string{"c"}, []string{"e"}), container.Process{Entrypoint: []string{""}, Cmd: []string{"v"}}, []string{"v"}},
	} {
		cfg := container.Config{Process: c.user}
		fillIn(&cfg, c.img)
		if got := cfg.Process.Args(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestFillIn(t *testing.T) {
	cfg := container.Config{
		Process:     container.Process{Env: []string{"A=user", "B=user"}},
		Labels:      map[string]string{"from": "user"},
		Mounts:      []container.Mount{{Kind: container.BindMount, Source: "/x", Target: "/mine"}},
		Healthcheck: &container.Healthcheck{Retries: 2},
	}
	fillIn(&cfg, imageWith([]string{"c"}, nil))
	if want := []string{"PATH=/bin", "A=user", "B=user"}; !slices.Equal(cfg.Process.Env, want) {
		t.Errorf("env %q", cfg.Process.Env)
	}
	if cfg.Labels["from"] != "user" || cfg.Labels["only"] != "image" {
		t.Errorf("labels %v", cfg.Labels)
	}
	if len(cfg.Mounts) != 2 || cfg.Mounts[1].Target != "/data" || !cfg.Mounts[1].Anonymous {
		t.Errorf("mounts %+v", cfg.Mounts)
	}
	if h := cfg.Healthcheck; h.Retries != 2 || h.Interval != time.Second || h.Test[1] != "probe" {
		t.Errorf("health %+v", h)
	}
	if len(cfg.Network.Exposed) != 1 || cfg.Network.Exposed[0].Number != 80 {
		t.Errorf("exposed %v", cfg.Network.Exposed)
	}
}
