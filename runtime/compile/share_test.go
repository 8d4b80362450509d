package compile

import (
	"os"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A child plays in our memory only where nobody else can reach it there, and where its end is not ours.
func TestShares(t *testing.T) {
	limit := func(bytes int64) *specs.LinuxResources {
		return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &bytes}}
	}
	dir := file(t, "dir")
	for name, c := range map[string]struct {
		change func(*specs.Spec, *Inputs)
		want   bool
	}{
		"usual":             {func(*specs.Spec, *Inputs) {}, true},
		"nobody asked":      {func(_ *specs.Spec, in *Inputs) { in.Share = false }, false},
		"joined network":    {func(_ *specs.Spec, in *Inputs) { in.Namespaces = join(specs.NetworkNamespace, dir) }, true},
		"joined processes":  {func(_ *specs.Spec, in *Inputs) { in.Namespaces = join(specs.PIDNamespace, dir) }, false},
		"the host's pids":   {func(s *specs.Spec, _ *Inputs) { without(s, specs.PIDNamespace) }, false},
		"new users":         {newUsers, false},
		"an init":           {func(_ *specs.Spec, in *Inputs) { in.Init = true }, false},
		"waits for a start": {func(_ *specs.Spec, in *Inputs) { in.Wait = dir }, false},
		"no limit":          {func(s *specs.Spec, _ *Inputs) { s.Linux.Resources = limit(-1) }, true},
		"a limit":           {func(s *specs.Spec, _ *Inputs) { s.Linux.Resources = limit(smallest) }, true},
		"a tight limit":     {func(s *specs.Spec, _ *Inputs) { s.Linux.Resources = limit(smallest - 1) }, false},
	} {
		spec, in := specFor("/rootfs", "id"), Inputs{Host: anyHost(), Share: true}
		c.change(spec, &in)
		p, err := Start(spec, in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := p.b.shares(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		p.Close()
	}
}

// A slot's child is in our memory already: what must not be there does not fit.
func TestSharedSlotFits(t *testing.T) {
	prepared, wanted := specFor("/rootfs", "id"), specFor("/rootfs", "id")
	if err := Fits(prepared, wanted, false); err != nil {
		t.Error(err)
	}
	if Fits(prepared, wanted, true) == nil {
		t.Error("an init fits")
	}
	wanted.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr[int64](6 << 20)}}
	if Fits(prepared, wanted, false) == nil {
		t.Error("a tight limit fits")
	}
}

func join(kind specs.LinuxNamespaceType, f *os.File) map[specs.LinuxNamespaceType]*os.File {
	return map[specs.LinuxNamespaceType]*os.File{kind: f}
}

func without(s *specs.Spec, kind specs.LinuxNamespaceType) {
	var l []specs.LinuxNamespace
	for _, n := range s.Linux.Namespaces {
		if n.Type != kind {
			l = append(l, n)
		}
	}
	s.Linux.Namespaces = l
}

func newUsers(s *specs.Spec, _ *Inputs) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
}
