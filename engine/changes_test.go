package engine

import (
	"slices"
	"testing"

	"github.com/berth-engine/berth/image"
	"github.com/containerd/errdefs"
)

func TestApplyChanges(t *testing.T) {
	cfg := &image.Config{}
	cfg.Config.Env = []string{"A=1"}
	err := applyChanges(cfg, []string{
		"ENV A=2 B=3", "LABEL x=y", `CMD ["a","b"]`, "ENTRYPOINT run it", "EXPOSE 80 53/udp", "USER app", "WORKDIR /srv", "WORKDIR sub", "VOLUME /data", "STOPSIGNAL SIGINT",
		"HEALTHCHECK --retries=2 CMD probe", "ONBUILD RUN x",
	})
	if err != nil {
		t.Fatal(err)
	}
	c := cfg.Config
	if !slices.Equal(c.Env, []string{"A=2", "B=3"}) || c.Labels["x"] != "y" || !slices.Equal(c.Cmd, []string{"a", "b"}) ||
		!slices.Equal(c.Entrypoint, []string{"/bin/sh", "-c", "run it"}) || len(c.ExposedPorts) != 2 || c.User != "app" || c.WorkingDir != "/srv/sub" ||
		len(c.Volumes) != 1 || c.StopSignal != "SIGINT" || c.Healthcheck.Retries != 2 || len(c.OnBuild) != 1 {
		t.Errorf("%+v", c)
	}
	for _, bad := range []string{"RUN x", "FROM y", "COPY a b", "NOTHING", "STOPSIGNAL SIGX", "EXPOSE x", ""} {
		if err := applyChanges(cfg, []string{bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
