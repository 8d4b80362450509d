package shim

import (
	"sync"

	"github.com/berth-engine/berth/runtime/cgroup"
	"github.com/berth-engine/berth/runtime/compile"
)

// machine is what does not change while a shim lives: it is looked at once, for all its containers, and mostly while a
// slot waits.
type machine struct {
	host    func() *compile.Host
	cgroups func() (*cgroup.System, error)
}

func newMachine() *machine {
	return &machine{host: sync.OnceValue(compile.ThisHost), cgroups: sync.OnceValues(cgroup.Find)}
}
