package api

import (
	"strings"
	"testing"

	"github.com/berth-engine/berth/container"
	"github.com/berth-engine/berth/engine"
	"github.com/containerd/errdefs"
	dockercontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

func TestParseBind(t *testing.T) {
	for bind, want := range map[string]string{ // "": accepted
		"/a:/b":             "",
		"/a:/b:ro,rslave,z": "",
		"vol:/b:ro,nocopy":  "",
		"/a:/b:cached":      "",
		"/a:/b:ro,rw":       "invalid mode: ro,rw",
		"/a:/b:z,Z":         "invalid mode: z,Z",
		"/a:/b:zz":          "invalid mode: zz",
		"/a:/b:nocopy":      "invalid mode: nocopy",
		"vol:/b:rshared":    "invalid mode: rshared",
		"/a:b":              "mount path must be absolute",
	} {
		m, err := parseBind(bind)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", bind, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", bind, err, want)
		case want == "" && m.ReadOnly != strings.Contains(bind, ":ro"):
			t.Errorf("%s: %+v", bind, m)
		}
	}
}

func TestParseMount(t *testing.T) {
	_, err := parseMount(mount.Mount{Type: mount.TypeBind, Source: "/a", Target: "/b", BindOptions: &mount.BindOptions{Propagation: "foo"}})
	if err == nil || !strings.Contains(err.Error(), "invalid propagation mode: foo") {
		t.Error(err)
	}
	m, err := parseMount(mount.Mount{Type: mount.TypeVolume, Source: "vol", Target: "/b", VolumeOptions: &mount.VolumeOptions{Labels: map[string]string{"a": "b"}}})
	if err != nil || m.Labels["a"] != "b" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestLogOptions(t *testing.T) {
	for option, want := range map[string]string{
		"max-size=1m":          "",
		"mode=non-blocking":    "",
		"mode=sometimes":       "it can be blocking or non-blocking",
		"compress=false":       "",
		"compress=true":        "berth doesn't compress logs yet",
		"compress=x":           "it is neither true nor false",
		"tag={{.Name}}":        "berth doesn't have this option yet",
		"syslog-facility=mail": "unknown log opt for json-file log driver",
	} {
		name, value, _ := strings.Cut(option, "=")
		_, err := logConfig(dockercontainer.LogConfig{Config: map[string]string{name: value}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", option, err, want)
		}
	}
}

func TestSecurityOption(t *testing.T) {
	for option, want := range map[string]string{
		"no-new-privileges":      "",
		"no-new-privileges:true": "",
		"no-new-privileges=x":    `"no-new-privileges=x": it wants true or false`,
		"systempaths=unconfined": "",
		"systempaths=x":          "it can only be systempaths=unconfined",
		"writable-cgroups=true":  "berth doesn't support --security-opt writable-cgroups=true yet",
		"nonsense=1":             `there is no option "nonsense"`,
		"nonsense":               "it is not name=value",
	} {
		err := securityOption(&container.Isolation{}, option)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", option, err, want)
		}
	}
}

// TestSystemPaths: what a client says of them is what the container gets, by their names or by the option.
func TestSystemPaths(t *testing.T) {
	i, err := isolation(&dockercontainer.HostConfig{MaskedPaths: []string{"/proc/own"}, ReadonlyPaths: []string{}})
	if err != nil || len(i.MaskedPaths) != 1 || i.ReadonlyPaths == nil || len(i.ReadonlyPaths) != 0 {
		t.Errorf("%v %v, %v", i.MaskedPaths, i.ReadonlyPaths, err)
	}
	if i, err = isolation(&dockercontainer.HostConfig{}); err != nil || i.MaskedPaths != nil || i.ReadonlyPaths != nil {
		t.Errorf("nothing said: %v %v, %v", i.MaskedPaths, i.ReadonlyPaths, err)
	}
	if i, err = isolation(&dockercontainer.HostConfig{SecurityOpt: []string{"systempaths=unconfined"}}); err != nil || i.MaskedPaths == nil || i.ReadonlyPaths == nil {
		t.Errorf("the option: %v %v, %v", i.MaskedPaths, i.ReadonlyPaths, err)
	}
	if _, err = isolation(&dockercontainer.HostConfig{ReadonlyPaths: []string{"proc"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a relative path: %v", err)
	}
}

func TestUnsupportedIsASentence(t *testing.T) {
	err := unsupported(dockercontainer.CreateRequest{HostConfig: &dockercontainer.HostConfig{Links: []string{"a:b"}}})
	if err == nil || !strings.HasPrefix(err.Error(), "berth doesn't support links (--link) yet: ") {
		t.Error(err)
	}
}

func TestMatchContainer(t *testing.T) {
	for filter, want := range map[string]string{ // "": no error, and the container matches
		"health=none":   "",
		"health=ill":    "invalid filter 'health=ill'",
		"exited=zero":   "invalid filter 'exited=zero'",
		"is-task=false": "",
		"is-task=true":  "no match",
		"is-task=x":     "expected true or false",
	} {
		name, value, _ := strings.Cut(filter, "=")
		match, err := (&Server{}).matchContainer(filters{name: {value: true}})
		got := ""
		switch {
		case err != nil:
			got = err.Error()
		case !match(engine.Container{}):
			got = "no match"
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}
}

func TestAskedAddresses(t *testing.T) {
	if c := askedAddresses(container.Endpoint{Network: "n"}); c != nil {
		t.Errorf("%+v", c)
	}
	if c := askedAddresses(container.Endpoint{Network: "n", IPv4: "10.9.0.7"}); c == nil || c.IPv4Address.String() != "10.9.0.7" {
		t.Errorf("%+v", c)
	}
}
