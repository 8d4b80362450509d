package bundle

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/berth-engine/berth/container"
	"github.com/containerd/errdefs"
)

var update = flag.Bool("update", false, "write the golden files anew")

var everything = CapabilitySet(1<<len(capabilityNames) - 1)

// TestGolden compares whole configurations, so that an addition shows too.
func TestGolden(t *testing.T) {
	swappiness := int64(10)
	for name, c := range map[string]container.Config{
		"default":    {Process: container.Process{Cmd: []string{"sh"}, Env: []string{"A=1"}}},
		"privileged": {Process: container.Process{Cmd: []string{"sh"}}, Isolation: container.Isolation{Privileged: true}},
		"limits": {
			Process:   container.Process{Entrypoint: []string{"/bin/x"}, Cmd: []string{"y"}, TTY: true, User: "1000", Rlimits: []container.Rlimit{{Name: "nofile", Soft: 1, Hard: 2}}},
			Resources: container.Resources{Memory: 1 << 20, NanoCPUs: 5e8, PidsLimit: 10, MemorySwappiness: &swappiness, CpusetCPUs: "0"},
			Isolation: container.Isolation{ReadonlyRootfs: true, NoNewPrivileges: true, CapDrop: []string{"ALL"}, CapAdd: []string{"chown"}},
			Mounts:    []container.Mount{{Kind: container.TmpfsMount, Target: "/run", Options: "exec,size=1m"}, {Kind: container.BindMount, Source: "/x", Target: "/dev/shm"}},
		},
		"host": {Process: container.Process{Cmd: []string{"sh"}}, Isolation: container.Isolation{PidMode: "host", IPCMode: "host", UTSMode: "host"}},
	} {
		in := Inputs{Hostname: "box", Home: "/root", CgroupPath: "/berth/id", Bounding: everything, HostNetwork: name == "host"}
		if c.Process.User == "1000" {
			in.UID, in.GID, in.Home = 1000, 1000, "/"
		}
		s, err := Spec(&c, in)
		if err != nil {
			t.Fatal(name, err)
		}
		got, _ := json.MarshalIndent(s, "", " ")
		path := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != string(got)+"\n" {
			t.Errorf("%s differs from %s (run with -update and look at the difference):\n%s", name, path, got)
		}
	}
}

func TestSystemPaths(t *testing.T) {
	none, own := []string{}, []string{"/proc/own"}
	for name, c := range map[string]struct {
		isolation        container.Isolation
		masked, readonly []string
	}{
		"nothing said":  {container.Isolation{}, maskedPaths, readonlyPaths},
		"none":          {container.Isolation{MaskedPaths: none, ReadonlyPaths: none}, none, none},
		"only masked":   {container.Isolation{MaskedPaths: own}, own, readonlyPaths},
		"only readonly": {container.Isolation{ReadonlyPaths: own}, maskedPaths, own},
		"privileged":    {container.Isolation{Privileged: true, MaskedPaths: own, ReadonlyPaths: own}, nil, nil},
	} {
		s, err := Spec(&container.Config{Process: container.Process{Cmd: []string{"sh"}}, Isolation: c.isolation}, Inputs{Bounding: everything})
		if err != nil || !slices.Equal(s.Linux.MaskedPaths, c.masked) || !slices.Equal(s.Linux.ReadonlyPaths, c.readonly) {
			t.Errorf("%s: %v %v, %v", name, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths, err)
		}
	}
}

func TestCapabilities(t *testing.T) {
	few := []string{"CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN"}
	for name, c := range map[string]struct {
		in   container.Isolation
		want []string
		err  bool
	}{
		"default as far as it goes": {container.Isolation{}, []string{"CAP_CHOWN", "CAP_KILL"}, false},
		"drop all, add one":         {container.Isolation{CapDrop: []string{"all"}, CapAdd: []string{"cap_kill"}}, []string{"CAP_KILL"}, false},
		"add all, drop one":         {container.Isolation{CapAdd: []string{"ALL"}, CapDrop: []string{"KILL"}}, []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}, false},
		"privileged":                {container.Isolation{Privileged: true, CapDrop: []string{"KILL"}}, few, false},
		"unknown":                   {container.Isolation{CapAdd: []string{"FLY"}}, nil, true},
		"missing here":              {container.Isolation{CapAdd: []string{"SYS_RESOURCE"}}, nil, true},
	} {
		got, err := Capabilities(c.in, few)
		if !slices.Equal(got, c.want) || (err != nil) != c.err || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

func TestMerge(t *testing.T) {
	got := Merge([]string{"PATH=/bin", "A=1", "B=2"}, []string{"A=3", "B", "C=4", "D"})
	if want := []string{"PATH=/bin", "A=3", "C=4"}; !slices.Equal(got, want) {
		t.Error(got)
	}
}

func TestParseDeviceRule(t *testing.T) {
	if r, err := ParseDeviceRule("c 10:* rw"); err != nil || *r.Major != 10 || r.Minor != nil || r.Access != "rw" {
		t.Errorf("%+v %v", r, err)
	}
	for _, s := range []string{"", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 rx", "c -1:3 r", "cc 1:3 r"} {
		if _, err := ParseDeviceRule(s); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
